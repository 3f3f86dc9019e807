"""`lemctl campaign ...`: the noun's verbs, each from the module that holds its kind."""

from __future__ import annotations

from lemctl.cli import campaign_plan, campaign_start, campaign_steer, campaign_view
from lemctl.cli.options import new_app

app = new_app("Plan, start and steer campaigns.")

app.command("plan")(campaign_plan.plan)
app.command("start")(campaign_start.start)
app.command("extend")(campaign_start.extend)
app.command("list")(campaign_view.list_)
app.command("show")(campaign_view.show)
app.command("pause")(campaign_steer.pause)
app.command("resume")(campaign_steer.resume)
app.command("stop")(campaign_steer.stop)
app.command("cancel")(campaign_steer.cancel)
app.command("retry")(campaign_steer.retry)
app.command("skip")(campaign_steer.skip)
app.command("wait")(campaign_steer.wait)
