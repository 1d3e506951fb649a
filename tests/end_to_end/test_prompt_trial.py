"""An own prompt tried as an operator does: real processes, one model that answers both prompts."""

import json
import os
import sys
from asyncio import subprocess
from pathlib import Path
from typing import Any

import msgspec
from support.llama import KEY, fake_llama
from support.logs import all_of, new, until
from support.prompt_trials import answer_own_prompt, own_prompt
from support.risk_scenes import assessed, facts
from support.serving import served

from runtime.settings import PROJECT_ROOT


async def _hsi(env: dict[str, str], *arguments: str) -> subprocess.Process:
    return await subprocess.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hsi", *arguments),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_an_own_prompt_is_compared_with_the_one_in_service(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    base = tmp_path / "cameras"
    base.mkdir()
    async with served(valkey_url, database_url, base) as api, fake_llama() as fake:
        answer_own_prompt(fake, 100)
        env = {
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "REDIS_URL": valkey_url,
            "DATABASE_URL": database_url,
            "FOSCAM_BASE_PATH": str(base),
            "HSI_STATE_DIR": str(tmp_path / "state"),
            "LOG_FILE_PATH": str(tmp_path / "hsi.log"),
            "NEMOTRON_URL": fake.url,
            "NEMOTRON_API_KEY": KEY,
            "CANDIDATE_PROMPT": str(own_prompt(tmp_path / "prompts")),
        }
        await api.register("front_door")
        roles = await _hsi(env, "agents", "refine", "trial")
        try:
            scene = assessed(facts("person", part="night"))
            for name in ("evt_1", "evt_2"):
                told = msgspec.structs.replace(scene, event_id=name)
                await api.log.append(new(told, name))

            async def compared() -> bool:
                return len(await all_of(api.log, "trials")) == 2

            await until(compared, seconds=60)
        finally:
            roles.terminate()
            _, err = await roles.communicate()
        assert roles.returncode == 0, err.decode()
        await api.project()
        status = await _hsi(env, "trial", "status", "--json")
        out, err = await status.communicate()
        assert status.returncode == 0, err.decode()
    told_of: dict[str, Any] = json.loads(out)
    (row,) = told_of["prompts"]
    assert (row["candidate_prompt"], row["prompt_version"]) == ("own-1", "risk-v1")
    assert (row["events"], row["failed"]) == (2, 0)
    assert row["drift"] > 0
    assert told_of["cameras"] == []
