# The service as one image: `serve`, `work`, `train`, `evaluate` are its commands.
#   docker build -t dmvfn .                                       torch as the registry has it: on Linux with CUDA
#   docker build --build-arg TORCH_INDEX=URL -t dmvfn:cpu .       torch from another index, such as PyTorch's for CPU
#   docker build --target front-end -t dmvfn:front-end .          without a model, for `serve` over Redis: no torch at all
# All start from the same small Python: the CUDA build of torch brings CUDA's libraries as Python packages.
ARG PYTHON_IMAGE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN ["python", "-m", "venv", "/opt/dmvfn"]
WORKDIR /src

FROM venv AS build-front-end
COPY requirements/front-end.in requirements/service.txt requirements/
RUN /opt/dmvfn/bin/pip install --quiet -c requirements/service.txt -r requirements/front-end.in
COPY deploy/image/slim deploy/image/shrink-libraries /usr/local/bin/
# Pictures' fonts are for the command `video`, which a front end has not.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* \
    && slim /opt/dmvfn/lib/python3.11/site-packages \
    && rm /opt/dmvfn/lib/python3.11/site-packages/PIL/_imagingft.*.so \
    && shrink-libraries /opt/dmvfn/lib/python3.11/site-packages
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
# No network and no weights.
COPY model/__init__.py model/
COPY service service
RUN /opt/dmvfn/bin/pip install --quiet --no-deps . \
    && /opt/dmvfn/bin/pip uninstall --quiet --yes setuptools pip \
    && (python -m compileall -qq -j 0 /opt/dmvfn/lib || true)

FROM venv AS build
# torch first and in its own layer: it is most of the image and changes least.
COPY requirements/torch.txt requirements/
ARG TORCH_INDEX=
RUN /opt/dmvfn/bin/pip install --quiet ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements/torch.txt
# Triton, which the CUDA build brings, compiles a C module at its first launch. Here, since the image has no compiler.
COPY deploy/image/triton-driver /usr/local/bin/
# hadolint ignore=DL3008
RUN if [ -d /opt/dmvfn/lib/python3.11/site-packages/triton ]; then \
      apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* \
      && triton-driver /opt/dmvfn/triton; \
    fi
COPY requirements/service.txt requirements/
RUN /opt/dmvfn/bin/pip install --quiet -r requirements/service.txt
# 1 adds what only `evaluate` needs, to draw.
ARG TRAINING=0
COPY requirements/dev.txt requirements/
RUN [ "$TRAINING" != 1 ] \
    || /opt/dmvfn/bin/pip install --quiet -c requirements/dev.txt matplotlib
COPY deploy/image/slim deploy/image/shrink-libraries /usr/local/bin/
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* \
    && slim /opt/dmvfn/lib/python3.11/site-packages && shrink-libraries /opt/dmvfn/lib/python3.11/site-packages
# Installed, not copied: its version and licence then stand among the packages that an SBOM lists.
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY model model
COPY service service
RUN /opt/dmvfn/bin/pip install --quiet --no-deps . \
    && /opt/dmvfn/bin/pip uninstall --quiet --yes setuptools pip \
    # Some packages carry sources for newer Pythons, which cannot be compiled here; nothing imports those.
    && (python -m compileall -qq -j 0 /opt/dmvfn/lib || true)
# The network's loops, compiled, so that no start does: the entry point chooses those of its processor.
COPY deploy/image/compile-loops /usr/local/bin/
RUN ["compile-loops", "/opt/dmvfn/numba"]

# The base without what installs, unpacks and administers: packages leave Debian's list, too, so that it stays true.
FROM ${PYTHON_IMAGE} AS system
RUN groupadd --gid 10001 dmvfn \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dmvfn \
    && dpkg --purge --force-all apt libapt-pkg6.0 gpgv debian-archive-keyring libgnutls30 libhogweed6 libnettle8 libp11-kit0 \
       libtasn1-6 libunistring2 libidn2-0 perl-base e2fsprogs libext2fs2 libss2 logsave mount passwd login adduser \
    && rm -rf /usr/lib/*-linux-gnu/gconv /var/lib/apt /var/cache/* /var/log/* /root/.cache \
       /usr/local/include /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/bin/idle* /usr/local/bin/2to3*
WORKDIR /usr/local/lib/python3.11
RUN rm -rf site-packages/* ensurepip idlelib lib2to3 tkinter turtledemo turtle.py pydoc_data test

# Copied whole, so that no layer below keeps what was removed.
FROM scratch AS base
# hadolint ignore=DL3067
COPY --from=system / /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DMVFN" \
      org.opencontainers.image.description="Two video frames in, the next frames out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/dmvfn/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    TRITON_CACHE_DIR=/tmp/triton \
    MPLCONFIGDIR=/tmp/matplotlib \
    DMVFN_HTTP_HOST=0.0.0.0 \
    DMVFN_GRPC_HOST=0.0.0.0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["/opt/dmvfn/bin/dmvfn", "health"]
ENTRYPOINT ["/opt/dmvfn/bin/dmvfn"]
CMD ["serve"]

FROM base AS front-end
COPY --from=build-front-end /opt/dmvfn /opt/dmvfn
COPY deploy/image/dmvfn /opt/dmvfn/bin/
ENV DMVFN_ENGINE=redis
USER 10001:10001

FROM base
COPY --from=build /opt/dmvfn /opt/dmvfn
COPY deploy/image/dmvfn deploy/image/processor-level /opt/dmvfn/bin/
USER 10001:10001
