# The role image for NVIDIA GPUs: vLLM's own, of the version that UMi is built on, and UMi's role services. One for all three
# roles. NOT RUN ON A GPU YET.
ARG VLLM=vllm/vllm-openai:v0.32.0
FROM ${VLLM}
COPY deploy/role.lock /build/
# What UMi needs and vLLM does not bring. vLLM's own packages stay as its image has them.
RUN for name in pydantic-settings prometheus-client jsonschema referencing gguf safetensors; do \
      python3 -c "import importlib.metadata as m; m.version('$name')" 2>/dev/null \
        || python3 -m pip install --no-cache-dir --no-deps "$(grep "^$name==" /build/role.lock)" || exit 1; \
    done
COPY pyproject.toml /build/umi/
COPY umi /build/umi/umi
COPY services /build/umi/services
# The project's lock is for Python 3.11; the image has a newer one, that the sources run on as well.
RUN touch /build/umi/README.md \
 && python3 -m pip install --no-cache-dir --no-deps --ignore-requires-python /build/umi && rm -rf /build \
 && ln -sf "$(command -v python3)" /usr/local/bin/python \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin umi \
 && install -d -o umi -g umi /models /registry
ENV HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT []
