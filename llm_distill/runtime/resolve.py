"""What a stage's references stand for: artifacts, models, and the digests that identify them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_distill.manifest import ModelUsed
from llm_distill.models.hub import cached_commit, learn_commit
from llm_distill.models.sources import ModelSource
from llm_distill.paths import find_resource
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import ModelConfig, PipelineConfig
from llm_distill.prompts import load_template
from llm_distill.runtime.artifact import Artifact, directory_digest
from llm_distill.runtime.fingerprint import result_settings
from llm_distill.stage import Stage, models_of, references, rows_of


@dataclass
class Resolver:
    """Knows the artifacts that are ready so far, and answers what a reference is."""

    pipeline: PipelineConfig
    ready: dict[str, Artifact] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def identity(self, name: str) -> dict[str, Any]:
        """Everything that can change the stage's result, as JSON. Its inputs must be ready."""
        stage = self.pipeline.stages[name]
        identity: dict[str, Any] = {
            "stage": stage.stage,
            "version": stage.version,
            "settings": result_settings(stage),
            "templates": {t: load_template(t).digest for t in sorted(_templates(stage))},
            "sources": stage.source_digests(),
            "inputs": {},
            "models": {},
        }
        found = references(stage)
        asked = {t for place, t, kind in found if kind == "model" and stage.asks(place)}
        for _, target, kind in found:
            if kind == "rows":
                identity["inputs"][target] = self.ready[target].content_digest
            else:
                identity["models"][target] = self._model_identity(
                    target, writes_text=target in asked
                )
        if stage.is_seeded():
            identity["seed"] = self.pipeline.seed_of(name)
        return identity

    def learn_commits(self, names: Iterable[str]) -> None:
        """Ask the Hub, once, what the names stand for that these stages read from it."""
        stages = [self.pipeline.stages[name] for name in names]
        for path, revision in {source for stage in stages for source in stage.hub_datasets()}:
            learn_commit("dataset", path, revision)
        for path, revision in {source for stage in stages for source in stage.hub_models()}:
            learn_commit("model", path, revision)
        models = {target for stage in stages for target in models_of(stage)}
        for config in [self.pipeline.models[m] for m in models if m in self.pipeline.models]:
            is_local = find_resource(config.model_name_or_path) is not None
            if not is_local and config.engine.loads_weights:
                learn_commit("model", config.model_name_or_path, config.revision)

    def model(self, name: str) -> ModelSource:
        """Where the weights of a model, or of what a stage trained, are."""
        if name not in self.pipeline.stages:
            config = self.pipeline.models[name]
            if config.engine.is_served():
                served = config.engine.served_name(config.model_name_or_path)
                return ModelSource(name, served, prompt_format=config.prompt_format)
            path = find_resource(config.model_name_or_path)
            return ModelSource(
                name=name,
                path=str(path) if path is not None else config.model_name_or_path,
                revision=_hub_revision(config) if path is None else None,
                dtype=config.dtype,
                prompt_format=config.prompt_format,
            )
        artifact = self.ready[name]
        base = self.model(models_of(self.pipeline.stages[name])[0])
        is_adapter = (artifact.path / "adapter_config.json").is_file()
        return ModelSource(
            name=name,
            path=base.path if is_adapter else str(artifact.path),
            adapters=(*base.adapters, str(artifact.path)) if is_adapter else (),
            revision=base.revision if is_adapter else None,
            dtype=base.dtype,
            prompt_format=base.prompt_format,
        )

    def model_config(self, name: str) -> ModelConfig:
        return self.pipeline.models[base_model(name, self.pipeline.stages)]

    def used(self, name: str) -> ModelUsed:
        """What the manifest records of a model that a stage used."""
        source = self.model(name)
        return ModelUsed(
            path=source.path if not source.is_local else Path(source.path).name,
            revision=source.revision,
            adapters=tuple(Path(adapter).name for adapter in source.adapters),
            identity=self._weights(name),
        )

    def writer_identity(self, name: str) -> tuple[dict[str, Any], str]:
        """All that can change what a model writes, and a name for people."""
        source = self.model(name)
        trained = [Path(adapter).name for adapter in source.adapters]
        path = Path(source.path).name if source.is_local else source.path
        return self._model_identity(name, writes_text=True), " + ".join([path, *trained])

    def _model_identity(self, name: str, writes_text: bool) -> dict[str, Any]:
        config = self.model_config(name)
        identity: dict[str, Any] = {
            "weights": self._weights(name),
            "prompt_format": config.prompt_format,
            "dtype": config.dtype,
        }
        if writes_text:
            identity["engine"] = result_settings(config.engine)
        return identity

    def _weights(self, name: str) -> Any:
        """Content digests from the base model up; the name where the weights are elsewhere."""
        if name in self.pipeline.stages:
            digest = self.ready[name].content_digest
            if not (self.ready[name].path / "adapter_config.json").is_file():
                return digest
            trained = models_of(self.pipeline.stages[name])[0]
            return {"base": self._weights(trained), "adapter": digest}
        config = self.pipeline.models[name]
        own = config.engine.weights_identity(config.model_name_or_path)
        if own is not None:
            return own
        path = find_resource(config.model_name_or_path)
        if path is None:
            return {"hub": config.model_name_or_path, "revision": _hub_revision(config) or "main"}
        if str(path) not in self._digests:
            self._digests[str(path)] = directory_digest(path)
        return self._digests[str(path)]


def _templates(stage: Stage) -> list[str]:
    """The templates' names; the variables that they are offered do not matter here."""
    return list(stage.template_variables(dict.fromkeys(rows_of(stage))))


def _hub_revision(config: ModelConfig) -> str | None:
    """The commit that a Hub name stands for, where the local cache knows it."""
    cached = cached_commit("model", config.model_name_or_path, config.revision)
    return cached or config.revision
