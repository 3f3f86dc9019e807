"""`lemctl doctor`: is this machine fit for a night? A remedy for each fault."""

from __future__ import annotations

from lemctl.cli.options import Executor, Json, new_app
from lemctl.cli.terminal import Style, out, out_json, styled
from lemctl.errors import page

app = new_app("Check this machine, with a remedy for each fault.")

_STYLES: dict[str, Style] = {"OK": "green", "FAIL": "red", "NOTE": "yellow"}


@app.command("doctor")
def doctor(json: Json = False, executor: Executor = None) -> int:
    """Check this machine, with a remedy for each fault. Exit code 4 when something needed fails."""
    from lemctl.cli.campaign_file import executor_named
    from lemctl.cli.checks import all_checks
    from lemctl.settings import load_settings

    settings = load_settings()
    found = all_checks(settings, executor_named(executor, settings))
    code = 4 if any(check.word == "FAIL" for check in found) else 0
    if json:
        out_json("doctor", fit=code == 0, checks=[check.to_json() for check in found])
        return code
    width = max(len(check.name) for check in found)
    for check in found:
        out(f"{styled(f'{check.word:<4}', _STYLES[check.word])}  {check.name:<{width}}  {check.detail}")
        if check.word != "OK" and check.fix:
            out(f"      {'':<{width}}  fix: {check.fix} ({page(check.anchor)})")
    return code
