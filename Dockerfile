# movl-monai with the tested versions of its dependencies.
#   CPU:   docker build -t movl-monai .
#   CUDA:  docker build --build-arg DEVICE=cuda -t movl-monai:cuda .
# Run:     docker run --rm -v /data/chest:/data:ro -v /results:/results movl-monai fit /data --output_dir /results/chest
# with CUDA: add `--gpus all`. Images are read with the rights of the user 1000, or of `--user`.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /source
COPY constraints.txt ./
RUN python -m venv /opt/movl \
    && case "${DEVICE}" in \
         cpu) index=(--index-url https://download.pytorch.org/whl/cpu) ;; \
         cuda) index=() ;; \
         *) echo "DEVICE must be cpu or cuda, got '${DEVICE}'" >&2; exit 1 ;; \
       esac \
    && /opt/movl/bin/pip install --no-cache-dir "${index[@]}" --constraint constraints.txt torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY movl_monai movl_monai
COPY transforms transforms
COPY bundles bundles
RUN /opt/movl/bin/pip install --no-cache-dir --constraint constraints.txt '.[export,listener]'

FROM python:${PYTHON}-slim
COPY --from=build /opt/movl /opt/movl
ENV PATH=/opt/movl/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home --uid 1000 movl
USER 1000
WORKDIR /home/movl
ENTRYPOINT ["movl-monai"]
CMD ["--help"]
