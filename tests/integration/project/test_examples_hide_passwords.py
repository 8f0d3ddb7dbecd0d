"""The examples in shell: no password is among the arguments of a program, for all to read."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.databases import ROOT

PROGRAM = r"""#!/bin/sh
printf '%s\n' "$0 $*" >> "$SEEN"
echo "REDISCLI_AUTH=$REDISCLI_AUTH PGPASSWORD=$PGPASSWORD" >> "$SECRET"
cat > /dev/null
echo 1
"""


def started(script: str, folder: Path, **env: str) -> tuple[str, str]:
    """Run a script over programs that only note how they were called: arguments, and secrets."""
    for name in ("redis-cli", "psql"):
        (folder / name).write_text(PROGRAM)
        (folder / name).chmod(0o755)
    # Every other program that it starts is seen, too.
    for name in ("awk", "sed", "expr", "base64", "od", "tr", "cut"):
        path = f'#!/bin/sh\necho "$0 $*" >> "$SEEN"\nPATH={os.environ["PATH"]} exec {name} "$@"\n'
        (folder / name).write_text(path)
        (folder / name).chmod(0o755)
    seen, secret = folder / "seen", folder / "secret"
    env |= {"SEEN": str(seen), "SECRET": str(secret)}
    env["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["sh", ROOT / "examples" / script], env=env, input="{}", text=True, check=True, timeout=30
    )
    return seen.read_text(), secret.read_text()


@pytest.mark.parametrize(
    ("url", "password", "arguments"),
    [
        ("redis://:S3cr@h:6380/3", "S3cr", "-h h -n 3 -p 6380 -x"),
        ("redis://us%2Fer:pa%2Fss@h/3", "pa/ss", "-h h -n 3 --user us/er -x"),
        ("rediss://:pa%25:ss%C3%BC@h?ssl_cert_reqs=required", "pa%:ssü", "-h h -n 0 --tls -x"),
        ("redis://:S3:cr@h", "S3:cr", "-h h -n 0 -x"),
        ("redis://h", "", "-h h -n 0 -x"),
    ],
)
def test_redis_cli_gets_the_password_by_the_environment(
    url: str, password: str, arguments: str, tmp_path: Path
) -> None:
    seen, secret = started("send_message.sh", tmp_path, BROKER_URL=url)
    assert f"redis-cli {arguments}" in seen
    assert f"REDISCLI_AUTH={password} " in secret
    for hidden in filter(None, (password, url.rpartition("@")[0].partition("//:")[2])):
        assert hidden not in seen


@pytest.mark.parametrize(
    ("url", "password", "shown"),
    [
        ("postgresql://w:S3cr@h:5433/d", "S3cr", "postgresql://w@h:5433/d"),
        ("postgresql://w%2F:pa%2Fss@h/d?x=y", "pa/ss", "postgresql://w%2F@h/d?x=y"),
        ("postgresql://w@h/d", "", "postgresql://w@h/d"),
        ("postgresql:///d?host=%2Ftmp", "", "postgresql:///d?host=%2Ftmp"),
    ],
)
def test_psql_gets_the_password_by_the_environment(
    url: str, password: str, shown: str, tmp_path: Path
) -> None:
    seen, secret = started("send_message_sql.sh", tmp_path, DATABASE_URL=url)
    assert shown in seen
    assert f"PGPASSWORD={password}\n" in secret
    for hidden in filter(None, (password, "pa%2Fss" if "%2Fss" in url else "")):
        assert hidden not in seen


def test_no_page_or_example_puts_a_whole_url_behind_a_program() -> None:
    files = [
        file
        for folder in ("examples", "docs")
        for ending in ("md", "sh", "sql", "py", "js")
        for file in (ROOT / folder).rglob(f"*.{ending}")
    ]
    for file in [*files, ROOT / "README.md"]:
        text = file.read_text(encoding="utf-8")
        for behind in ('redis-cli -u "$', "redis-cli -a ", 'psql "$DATABASE_URL" -', "-b redis"):
            assert behind not in text, file
