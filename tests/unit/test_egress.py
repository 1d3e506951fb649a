"""What may be called: hostile URLs and addresses are refused, before and after names resolve."""

from ipaddress import ip_address
from typing import Final

import pytest
from pydantic import SecretStr

from domain.egress import EgressRefusedError, networks_of, refusal, target_of
from runtime.masking import Masker
from runtime.setting_text import shown
from runtime.settings import Settings, SettingsError, load_settings
from runtime.webhook import GuardedResolver, Webhook

HOSTILE: Final = (
    # this machine, spelled in every way
    "http://127.0.0.1/",
    "http://127.0.0.1:6379/",
    "http://127.255.255.254/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://0X7F.0X0.0X0.0X1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0177.0.0.01/",
    "http://127.000.000.001/",
    "http://127.0.0.1./",
    "http://127.0.0.0x1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://0.0.0.0:8000/",
    "http://0x/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000::1]:8000/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    # the house, the provider, the cloud
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://3232235777/",
    "http://0xc0a80101/",
    "http://100.64.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://168.63.129.16/machine",
    "http://192.0.0.192/opc/v2/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2002:c0a8:101::]/",
    "http://[fd00:ec2::254]/latest/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://224.0.0.1/",
    "http://239.255.255.250:1900/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://198.18.0.1/",
    "http://192.0.2.1/",
    "http://198.51.100.7/",
    "http://203.0.113.7/",
    "http://192.88.99.1/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[100::1]/",
    # URLs that two readers read differently
    "http://user@hooks.example/",
    "http://user:secret@hooks.example/",
    "http://hooks.example@127.0.0.1/",
    "http://hooks.example:80@127.0.0.1/",
    "http://hooks.example#@127.0.0.1/",
    "http://hooks.example\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://hooks.example\\.127.0.0.1/",
    "http://127.0.0.1%2f.hooks.example/",
    "http://%31%32%37.0.0.1/",
    "http://hooks.example%00.evil.example/",
    "http://hooks.example\r\nHost: evil.example/",
    "http://hooks.example/\r\nX: 1",
    "http://hooks.example/a b",
    "http://hooks.example/#part",
    " http://hooks.example/",
    "http://hooks.example/ ",
    "http:///path",
    "http:/127.0.0.1/",
    "//127.0.0.1/",
    "127.0.0.1",
    "",
    "http://",
    "http://.",
    "http://a..b/",
    "http://[::1",
    "http://[hooks.example]/",
    "http://[127.0.0.1]/",
    "http://hooks.example:0/",
    "http://hooks.example:65536/",
    "http://hooks.example:99999/",
    "http://hooks.example:-1/",
    "http://hooks.example:8o/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020\u30020\u30021/",
    "http://hooks\uff0eexample/",
    "http://\ufb01le.example/",
    "http://hoo\u212as.example/",
    "http://hook\u017f.example/",
    # other schemes
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:11211/",
    "redis://127.0.0.1:6379/",
    "unix:///run/docker.sock",
    "javascript:alert(1)",
    "data:text/plain,hello",
    "jar:http://hooks.example!/",
    "http+unix://%2Frun%2Fdocker.sock/",
    f"http://hooks.example/{'a' * 2048}",
)


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused_and_nothing_of_its_secrets_is_said(url: str) -> None:
    with pytest.raises(EgressRefusedError) as refused:
        Webhook(url)
    assert "secret" not in str(refused.value)
    with pytest.raises(EgressRefusedError):
        Webhook(url.upper() if url.isascii() else url)


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T0/B0/abc", "https://hooks.example"),
        ("HTTPS://Hooks.Example:443/x?key=1", "https://hooks.example"),
        ("http://hooks.example:8080", "http://hooks.example:8080"),
        ("https://xn--bcher-kva.example./x", "https://xn--bcher-kva.example."),
        ("https://8.8.8.8/x", "https://8.8.8.8"),
        ("https://[2606:4700:4700::1111]:8443/x", "https://[2606:4700:4700::1111]:8443"),
        ("https://[64:ff9b::808:808]/x", "https://[64:ff9b::808:808]"),
        ("https://h.example/a%20b?x=1&y=%41;z=@:!$'()*+,", "https://h.example"),
    ],
)
def test_what_may_be_called_is_shown_without_its_path(url: str, shown: str) -> None:
    assert target_of(url).shown == shown


def test_a_network_that_is_listed_may_be_called_and_no_other() -> None:
    allowed = networks_of(["127.0.0.0/8", "192.168.1.0/24", "fd00::/8"])
    for url in ("http://127.0.0.1:9/", "http://[::ffff:192.168.1.7]/", "http://[fd12::1]/"):
        assert target_of(url, allowed).host
    for url in (
        "http://192.168.2.1/",
        "http://169.254.169.254/",
        "http://[::1]/",
        "http://127.1/",
    ):
        with pytest.raises(EgressRefusedError):
            target_of(url, allowed)
    # What stands for an IPv4 address elsewhere is not there, even if that network is listed.
    assert refusal(ip_address("2002:c0a8:101::"), allowed) is not None
    with pytest.raises(ValueError, match="'house' is no network: write"):
        networks_of(["house"])


async def test_a_name_is_refused_by_any_address_that_it_has() -> None:
    answers = {
        "inside.example": ["10.0.0.5"],
        "mixed.example": ["93.184.216.34", "169.254.169.254"],
        "scoped.example": ["fe80::1%eth0"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "many.example": [*["93.184.216.34"] * 8, "127.0.0.1"],
    }

    async def lookup(host: str, port: int) -> list[str]:
        return answers[host]

    resolver = GuardedResolver((), lookup)
    for host in ("inside.example", "mixed.example", "scoped.example", "mapped.example"):
        with pytest.raises(EgressRefusedError, match=rf"^{host} is .*WEBHOOK_ALLOWED_NETWORKS"):
            await resolver.resolve(host, 443)
    # Of very many addresses the first are judged, and no other is handed out.
    assert {place["host"] for place in await resolver.resolve("many.example", 443)} == {
        "93.184.216.34"
    }


# --- the settings -------------------------------------------------------------------------------

SECRET = "https://hooks.example/services/T0123/B4567/verySecretPart?token=alsoSecret"


def test_the_settings_refuse_what_may_not_be_called_without_showing_it() -> None:
    given = {"DEFAULT_WEBHOOK_URL": "http://10.1.2.3/verySecretPart"}
    with pytest.raises(SettingsError) as refused:
        load_settings(environ=given)
    (problem,) = refused.value.problems
    assert problem.startswith("DEFAULT_WEBHOOK_URL=******** (from environment): 10.1.2.3 is a ")
    assert "verySecretPart" not in str(refused.value)
    allowed = given | {"WEBHOOK_ALLOWED_NETWORKS": '["10.1.0.0/16"]'}
    assert load_settings(environ=allowed).alert_groups == ("alert", "notify")
    with pytest.raises(SettingsError, match=r"WEBHOOK_ALLOWED_NETWORKS.*'all' is no network"):
        load_settings(environ={"WEBHOOK_ALLOWED_NETWORKS": '["all"]'})
    with pytest.raises(SettingsError, match=r"WEBHOOK_TIMEOUT_SECONDS=301 .*from 1 to 300"):
        load_settings(environ={"WEBHOOK_TIMEOUT_SECONDS": "301"})


def test_the_url_is_a_secret_everywhere() -> None:
    settings = Settings(default_webhook_url=SecretStr(SECRET))
    assert shown(settings.default_webhook_url) == "********"
    assert "verySecretPart" not in repr(settings)
    masker = Masker(settings.secrets)
    for said in (f"calls {SECRET}", f'"POST {SECRET.removeprefix("https://hooks.example")}"'):
        assert "Secret" not in masker(said)


def test_without_a_url_or_switched_off_there_is_nothing_to_run() -> None:
    assert Settings().alert_groups == ()
    url = SecretStr(SECRET)
    off = Settings(default_webhook_url=url, notification_enabled=False)
    assert (off.alert_groups, off.webhook_url) == ((), None)
    assert Settings(default_webhook_url=SecretStr("")).alert_groups == ()
