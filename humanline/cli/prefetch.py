"""Fetching, ahead of time, all that a scale takes from the Hugging Face hub."""

from humanline.data import hub
from humanline.data.downloads import files_fingerprint, model_files, model_folder, rows_fingerprint
from humanline.study.scale.data import HubDataset
from humanline.study.scale.hub import HubSource, hub_sources
from humanline.study.study import Study


def prefetch(study: Study) -> None:
    """Fill the hub's cache with a scale's data and models, check them, print their fingerprints.

    Of what is not pinned it prints how to pin it.
    """
    for field, source in hub_sources(study.scale).items():
        print(f"{field}: {source.repo}: {_fetch(source)}", flush=True)


def _fetch(source: HubSource) -> str:
    if not source.is_pinned:
        return f"not fetched; {source.how_to_pin}"
    if isinstance(source, HubDataset):
        rows = hub.load(source)
        return f"{len(rows)} rows, fingerprint {rows_fingerprint(rows)}"
    return f"fingerprint {files_fingerprint(model_files(source, model_folder(source)))}"
