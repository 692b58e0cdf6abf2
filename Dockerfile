# One image, three uses by command: `authserver serve` (the default), `python -m resource_server`, `authserver migrate`.
# Needs no BuildKit. Build: docker build -t authserver .
# To pin the base by digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# gunicorn's HTTP parser comes as C source. A base with Debian's own Python has the headers in a package of its own.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && { test -e "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
   || apt-get install --yes --no-install-recommends python3-dev; }
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Nothing from an index but what the lock files name, with one of the hashes that they give (scripts/lock.sh). Without isolation,
# because an isolated build would fetch its tools unchecked.
COPY requirements.lock requirements-build.lock ./
RUN python -m pip install --require-hashes -r requirements-build.lock \
 && python -m pip wheel --require-hashes --no-build-isolation --wheel-dir /wheels -r requirements.lock
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY authserver authserver
COPY resource_server resource_server
COPY sql sql
# The environment gets no pip of its own; compiled here, because the final file system is read-only.
RUN python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/authserver \
 && python -m pip --python /opt/authserver/bin/python install --no-index --no-deps --compile /wheels/*.whl

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="authserver" \
      org.opencontainers.image.description="A machine-to-machine OAuth 2.0 authorization server and an example resource server" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# A number, so that Kubernetes can see that it is not root. No account is needed, and none is made.
ENV PATH=/opt/authserver/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AUTHSERVER_BIND=0.0.0.0:8000 \
    RESOURCE_SERVER_BIND=0.0.0.0:8000
# What the base has for installing packages would serve only an intruder.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip
COPY --from=build /opt/authserver /opt/authserver
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
# Both servers answer here; http.client, because it heeds no proxy settings.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
# No shell in between: the server is process 1 and gets SIGTERM itself.
CMD ["authserver", "serve"]
