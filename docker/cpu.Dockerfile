# quantale on a CPU. From the root of the repository:
#   docker build --file docker/cpu.Dockerfile --tag quantale:cpu .
# Needs a key at run time (QUANTALE_API_KEY) and a model at /model; see docs/deploying.md.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/quantale
ENV PATH=/opt/quantale/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
# The usual index has PyTorch with CUDA's libraries, gigabytes that a CPU has no use for.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --constraint constraints.txt '.[serve,export]'

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin quantale \
    && install --directory --owner quantale --group quantale /votes
COPY --from=build /opt/quantale /opt/quantale
COPY docker/health.py /opt/quantale/health.py
ENV PATH=/opt/quantale/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER quantale
WORKDIR /home/quantale
EXPOSE 8000 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/opt/quantale/health.py", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["quantale"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
