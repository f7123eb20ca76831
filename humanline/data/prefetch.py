"""Fetching all that a scale needs from the hub and from the package index, ahead of time."""

from humanline.data import hub_datasets, packages
from humanline.data.hub import files_fingerprint, model_files, model_folder, rows_fingerprint
from humanline.study.scale.data import HubDataset
from humanline.study.scale.hub import HubSource, found_in, hub_sources
from humanline.study.scale.models import PackageModel
from humanline.study.scale.scale import Scale


def prefetch(scale: Scale) -> None:
    """Fetch a scale's data and models into the caches, check them, print their fingerprints.

    A repository that is not pinned is not fetched; a line says how to pin it.

    Raises:
        ConfigError: if a repository or a package cannot be fetched, or has another fingerprint.
    """
    for field, source in hub_sources(scale).items():
        print(f"{field}: {source.repo}: {_fetch(source)}", flush=True)
    for field, package in found_in(scale, PackageModel).items():
        folder = packages.model_folder(package)
        print(f"{field}: {package.package}: its sha256 is right, converted to {folder}", flush=True)


def _fetch(source: HubSource) -> str:
    if not source.is_pinned:
        return f"not fetched; {source.how_to_pin}"
    if isinstance(source, HubDataset):
        rows = hub_datasets.load(source)
        return f"{len(rows)} rows, fingerprint {rows_fingerprint(rows)}"
    return f"fingerprint {files_fingerprint(model_files(source, model_folder(source)))}"
