# quantale on an NVIDIA GPU. From the root of the repository:
#   docker build --file docker/cuda.Dockerfile --tag quantale:cuda .
# The host needs a driver for the CUDA version of PyTorch and NVIDIA's container toolkit, and
# `docker run` needs --gpus all. The CUDA libraries come with PyTorch's wheel, so the base image has
# none. Needs a key at run time (QUANTALE_API_KEY) and a model at /model; see docs/deploying.md.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/quantale
ENV PATH=/opt/quantale/bin:$PATH
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --constraint constraints.txt '.[serve,export,bnb]'

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin quantale \
    && install --directory --owner quantale --group quantale /votes
COPY --from=build /opt/quantale /opt/quantale
COPY docker/health.py /opt/quantale/health.py
ENV PATH=/opt/quantale/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER quantale
WORKDIR /home/quantale
EXPOSE 8000 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/opt/quantale/health.py", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["quantale"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
