"""A manifest's text and its digest: both pinned, as artifacts made before must still be reused."""

from __future__ import annotations

import json

from llm_distill.digests import fingerprint
from llm_distill.manifests import manifest_digest, manifest_text


def test_digest_is_over_all_but_itself_and_covers_unknown_fields():
    manifest = {"schema_version": 1, "stage": "é", "of_a_newer_version": [1]}
    digest = manifest_digest(manifest)
    assert digest == fingerprint(manifest)
    assert manifest_digest({**manifest, "manifest_digest": digest}) == digest
    assert manifest_digest({**manifest, "of_a_newer_version": [2]}) != digest


def test_text_reads_back_to_itself():
    text = '{\n  "stage": "é",\n  "rows_out": 2\n}\n'
    assert manifest_text(json.loads(text)) == text
