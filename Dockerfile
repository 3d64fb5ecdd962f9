# sparsity-lab as a program that works on the folder it is started in:
#
#   docker build --tag sparsity-lab .
#   docker build --tag sparsity-lab:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/project" sparsity-lab init mine
#   docker run --rm --gpus all --user ... --volume "$PWD/mine:/project" --entrypoint dvc sparsity-lab:cuda repro
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md constraints.txt dvc.yaml ./
COPY .dvc/plots .dvc/plots
COPY specs specs
COPY sparsity_lab sparsity_lab
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# git is DVC's; its version is Debian's of the day
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
# torch in a step of its own, so that no other package is looked up in that index: docs/adr/0003-torch-builds.md
RUN pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" --constraint /tmp/constraints.txt torch
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --constraint /tmp/constraints.txt /wheel/*.whl
RUN useradd --uid 1000 lab && mkdir /project && chown lab /project
USER 1000
# caches of whichever user it runs as; a folder of another user is no fault in a container
ENV HOME=/tmp \
    GIT_CONFIG_COUNT=1 \
    GIT_CONFIG_KEY_0=safe.directory \
    GIT_CONFIG_VALUE_0=*
WORKDIR /project
ENTRYPOINT ["sparsity-lab"]
CMD ["--help"]
