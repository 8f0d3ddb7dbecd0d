"""The page of the command line is up to date with the commands' own help."""

from typer.cli import app as typers_own
from typer.testing import CliRunner

from tests.support.databases import ROOT


def test_the_page_of_the_command_line_is_made_of_the_commands() -> None:
    docs = ("utils", "docs", "--name", "worker", "--title", "The command line")
    result = CliRunner().invoke(typers_own, ["worker.cli.app", *docs])
    assert result.exit_code == 0, result.output
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert page.strip() == result.stdout.strip(), "run `make reference`"
