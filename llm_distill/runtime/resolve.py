"""Resolves a stage's references to artifacts, models, and the digests that identify them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from llm_distill.manifest import ModelUsed
from llm_distill.models.files import TOKENIZER_FILES
from llm_distill.models.hub import cached_commit, learn_commit, learn_text
from llm_distill.models.sources import ASKS_FOR_DATE, TEMPLATE_FILES, ModelSource, asks_for_the_date
from llm_distill.paths import find_resource
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import ModelConfig, PipelineConfig
from llm_distill.prompts import chat_template, load_template
from llm_distill.runtime.artifact import Artifact, directory_digest
from llm_distill.runtime.fingerprint import result_settings, without_earlier_stages
from llm_distill.stage import Stage, models_of, references, rows_of, tokenizers_of


@dataclass
class Resolver:
    """Resolves references, given the artifacts that are ready so far.

    first_run: the day on which the pipeline first ran, for chat templates that ask for the date.
    """

    pipeline: PipelineConfig
    first_run: Callable[[], date] = date.today
    ready: dict[str, Artifact] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)
    _dated: dict[tuple[str, str | None], bool] = field(default_factory=dict)

    def identity(self, name: str) -> dict[str, Any]:
        """Everything that can change the stage's result, as JSON. Its inputs must be ready."""
        stage = self.pipeline.stages[name]
        identity = self._own_identity(stage)
        for target, kind, is_asked in _inputs_of(stage):
            if kind == "rows":
                identity["inputs"][target] = self.ready[target].manifest.content_digest
            else:
                identity["models"][target] = self._model_of(stage, target, is_asked)
        if stage.is_seeded():
            identity["seed"] = self.pipeline.seed_of(name)
        return identity

    def recipe(self, name: str) -> dict[str, Any]:
        """`identity` without what depends on the seed or on earlier stages; needs no artifacts.

        Of a model that a stage trains it has what is known of its base.
        """
        stage = self.pipeline.stages[name]
        identity = self._own_identity(stage)
        for target, kind, is_asked in _inputs_of(stage):
            if kind == "rows":
                identity["inputs"][target] = None
            else:
                base = base_model(target, self.pipeline.stages)
                identity["models"][target] = self._model_of(stage, base, is_asked)
        return without_earlier_stages(identity, self.pipeline.stages)

    def _own_identity(self, stage: Stage) -> dict[str, Any]:
        """What it says itself; inputs and models are to be filled in."""
        return {
            "stage": stage.stage,
            "version": stage.version,
            "settings": {**result_settings(stage), **stage.further_settings()},
            "templates": {t: load_template(t).digest for t in sorted(_templates(stage))},
            "sources": stage.source_digests(),
            "inputs": {},
            "models": {},
        }

    def _model_of(self, stage: Stage, name: str, is_asked: bool) -> dict[str, Any]:
        identity = self._model_identity(name, writes_text=is_asked)
        has_weights = self.model_config(name).engine.has_weights_here()
        if name in tokenizers_of(stage) and not has_weights:
            identity["tokenizer"] = self._tokenizer(name)
        if name in self.ready and _reads_training(stage, name):
            identity["training"] = self.ready[name].path.name
        return identity

    def learn_commits(self, names: Iterable[str]) -> None:
        """Ask the Hub, once, for the commits of what these stages read from it."""
        stages = [self.pipeline.stages[name] for name in names]
        for path, revision in {source for stage in stages for source in stage.hub_datasets()}:
            learn_commit("dataset", path, revision)
        for path, revision in {source for stage in stages for source in stage.hub_models()}:
            learn_commit("model", path, revision)
        models = {target for stage in stages for target in models_of(stage)}
        read = {target for stage in stages for target in tokenizers_of(stage)}
        for name in [name for name in models if name in self.pipeline.models]:
            config = self.pipeline.models[name]
            is_local = find_resource(config.model_name_or_path) is not None
            answering = config.engine.answering()
            loads = answering.loads_weights or answering.takes_adapters_alone
            if not is_local and (name in read or loads):
                learn_commit("model", config.model_name_or_path, config.revision)
                for file in TEMPLATE_FILES:
                    learn_text(config.model_name_or_path, file, config.revision)

    def model(self, name: str) -> ModelSource:
        """Where the weights of a model, or of what a stage trained, are."""
        if name not in self.pipeline.stages:
            config = self.pipeline.models[name]
            if not config.engine.has_weights_here():
                served = config.engine.served_name(config.model_name_or_path)
                return ModelSource(
                    name,
                    served,
                    prompt_format=config.prompt_format,
                    system_role=config.system_role,
                )
            return self._files(name)
        artifact = self.ready[name]
        base = self.model(models_of(self.pipeline.stages[name])[0])
        if _is_adapter(artifact):
            return replace(base, name=name, adapters=(*base.adapters, str(artifact.path)))
        return replace(base, name=name, path=str(artifact.path), adapters=(), revision=None)

    def with_tokenizer(self, name: str) -> ModelSource:
        """As `model`; of one on a server also where its tokenizer is."""
        source = self.model(name)
        if name in self.pipeline.stages or self.model_config(name).engine.has_weights_here():
            return source
        return replace(source, tokenizer=self._files(name))

    def _files(self, name: str) -> ModelSource:
        """Where the files of an entry under `models:` are."""
        config = self.pipeline.models[name]
        local = find_resource(config.model_name_or_path)
        path = str(local) if local is not None else config.model_name_or_path
        revision = _hub_revision(config) if local is None else None
        template = _chat_template(config)
        is_dated = config.prompt_format == "chat" and self._is_dated(path, revision, template)
        return ModelSource(
            name=name,
            path=path,
            revision=revision,
            dtype=config.dtype,
            prompt_format=config.prompt_format,
            system_role=config.system_role,
            today=(self.pipeline.today or self.first_run()) if is_dated else None,
            chat_template=template,
            attn_implementation=config.attn_implementation,
        )

    def _is_dated(self, path: str, revision: str | None, template: str | None) -> bool:
        if template is not None:
            return ASKS_FOR_DATE in template
        if (path, revision) not in self._dated:
            self._dated[path, revision] = asks_for_the_date(path, revision)
        return self._dated[path, revision]

    def model_config(self, name: str) -> ModelConfig:
        return self.pipeline.models[base_model(name, self.pipeline.stages)]

    def used(self, name: str) -> ModelUsed:
        """What the manifest records about a model that a stage used."""
        source = self.model(name)
        return ModelUsed(
            path=source.path if not source.is_local else Path(source.path).name,
            revision=source.revision,
            adapters=tuple(Path(adapter).name for adapter in source.adapters),
            identity=self._weights(name),
        )

    def writer_identity(self, name: str) -> tuple[dict[str, Any], str]:
        """All that can change what a model writes, and a name for people."""
        used = self.used(name)
        title = " + ".join([used.path, *used.adapters])
        return self._model_identity(name, writes_text=True), title

    def _model_identity(self, name: str, writes_text: bool) -> dict[str, Any]:
        config = self.model_config(name)
        identity: dict[str, Any] = {
            "weights": self._weights(name),
            "prompt_format": config.prompt_format,
            "dtype": config.dtype,
        }
        if writes_text:
            identity["engine"] = result_settings(config.engine.answering())
        if config.system_role != "refuse":
            identity["system_role"] = config.system_role
        template = _chat_template(config)
        if template is not None:
            identity["chat_template"] = hashlib.sha256(template.encode()).hexdigest()
        today = self.model(name).today
        if today is not None:
            identity["today"] = today.isoformat()
        return identity

    def _tokenizer(self, name: str) -> Any:
        """Of a model on a server: what of it is read here."""
        source = self.with_tokenizer(name).readable
        if not source.is_local:
            return {"hub": source.path, "revision": source.revision or "main"}
        files = [Path(source.path) / file for file in sorted({*TOKENIZER_FILES, *TEMPLATE_FILES})]
        return [hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()]

    def _weights(self, name: str) -> Any:
        """Content digests from the base model up; the name if the weights are elsewhere."""
        if name in self.pipeline.stages:
            artifact = self.ready[name]
            digest = artifact.manifest.content_digest
            if not _is_adapter(artifact):
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


def _chat_template(config: ModelConfig) -> str | None:
    return None if config.chat_template is None else chat_template(config.chat_template)


def _is_adapter(artifact: Artifact) -> bool:
    return (artifact.path / "adapter_config.json").is_file()


def _inputs_of(stage: Stage) -> list[tuple[str, str, bool]]:
    """(name, rows or model, whether a model is asked to write) for each reference."""
    found = references(stage)
    asked = {t for place, t, kind in found if kind == "model" and stage.asks(place)}
    return [(target, kind, target in asked) for _, target, kind in found]


def _reads_training(stage: Stage, name: str) -> bool:
    return any(target == name and stage.reads_training(at) for at, target, _ in references(stage))


def _templates(stage: Stage) -> list[str]:
    """The templates' names, whatever variables they are offered."""
    return list(stage.template_variables(dict.fromkeys(rows_of(stage))))


def _hub_revision(config: ModelConfig) -> str | None:
    """The commit of a Hub name if the local cache knows it, else the revision as given."""
    cached = cached_commit("model", config.model_name_or_path, config.revision)
    return cached or config.revision
