"""`hsi models`: fetch, make, check, install and serve model files; one module a command."""

import typer

from hsi.models.bench import bench
from hsi.models.control import load, promote, rollback, unload
from hsi.models.doctor import doctor
from hsi.models.eval_risk import eval_risk
from hsi.models.export import export
from hsi.models.fetch import fetch
from hsi.models.install import install
from hsi.models.listing import show
from hsi.models.plan import plan
from hsi.models.verify_gpu import verify_gpu

app = typer.Typer(add_completion=False)
app.command()(fetch)
app.command("list")(show)
app.command()(export)
app.command()(plan)
app.command()(install)
app.command()(load)
app.command()(unload)
app.command()(promote)
app.command()(rollback)
app.command("eval-risk")(eval_risk)
app.command()(bench)
app.command()(doctor)
app.command("verify-gpu")(verify_gpu)
