# One image for worker, gateway, console, mailbox, migrations and Flower. The command selects one; see docker-compose.yml.

FROM python:3.11-slim AS build

RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
ENV UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
WORKDIR /app

# Libraries first: this layer stays cached until the lock changes.
COPY pyproject.toml uv.lock ./
COPY client ./client
RUN uv sync --locked --no-dev --extra otel --extra gateway --extra console --extra hours --extra mailbox --no-install-workspace

COPY README.md LICENSE alembic.ini ./
COPY migrations ./migrations
COPY worker ./worker
RUN uv sync --locked --no-dev --extra otel --extra gateway --extra console --extra hours --extra mailbox


FROM python:3.11-slim

# An id that no host user is likely to have; it does not own the files that it runs.
RUN useradd --uid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin worker
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# Without a cache of freed memory in each thread: in time those of 1,000 threads hold 250 MB.
ENV GLIBC_TUNABLES=glibc.malloc.tcache_count=0
WORKDIR /app
USER 10001

# A healthy worker consumes; a living process is not enough, and a Redis that is down is no fault.
HEALTHCHECK --interval=30s --timeout=20s --start-period=40s --retries=3 CMD ["worker", "health"]

STOPSIGNAL SIGTERM
# Gossip and mingle are not needed: workers find each other's work in Postgres.
CMD ["celery", "-A", "worker", "worker", "--without-gossip", "--without-mingle"]
