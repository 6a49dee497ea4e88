"""Generation with vLLM, in process: its queue is kept full, and completions come as they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from vllm import SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from llm_distill.doing import doing
from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.codec import Codec, Prompt, ScoredTokens
from llm_distill.engines.scored import n_likeliest, score_of
from llm_distill.engines.vllm.loading import close, load, reason
from llm_distill.errors import ModelError
from llm_distill.methods.chat_format import chat_format
from llm_distill.models.memory import out_of_memory_as
from llm_distill.models.sources import end_tokens, load_tokenizer

if TYPE_CHECKING:
    from llm_distill.engines.vllm.settings import VLLMSettings
    from llm_distill.models.sources import ModelSource

QUEUE = 2
"""Requests that are in vLLM at once, as a multiple of those that it decodes together."""

Asked = TypeVar("Asked", Request, ScoreRequest)
Row = TypeVar("Row", Prompt, ScoredTokens)
Answer = TypeVar("Answer", Completion, Score)


class VLLMEngine:
    """One model in vLLM.

    Raises:
        ModelError: the model or its adapter cannot be loaded, or does not fit into memory.
    """

    def __init__(self, source: ModelSource, settings: VLLMSettings) -> None:
        self._name = source.name
        tokenizer: Any = load_tokenizer(source)
        ends = end_tokens(source, tokenizer)
        self._ends = sorted(ends)
        with doing(f"load {source.name}"):
            self._engine, self._adapter = load(source, settings, tokenizer)
        config = self._engine.vllm_config
        self._most = QUEUE * config.scheduler_config.max_num_seqs
        context: int = config.model_config.max_model_len
        chat = chat_format(source, tokenizer)
        self._codec = Codec(source.name, tokenizer, ends, context, settings.long_prompt, chat)
        self._numbers = count()

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they end; see `engines.base.Engine`.

        Raises:
            ModelError: vLLM refuses a request (its schema, say), or runs out of memory.
        """
        yield from self._answers(requests, self._codec.read, self._sampling, self._completion)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """Scores as they end; see `engines.base.Engine`.

        Raises:
            ModelError: vLLM runs out of memory.
        """
        yield from self._answers(requests, self._codec.read_scored, _forced, _score)

    def close(self) -> None:
        """Free the memory; another engine may be opened then."""
        if self._engine is not None:
            close(self._engine)
            self._engine = None

    def _answers(
        self,
        requests: Iterable[Asked],
        read: Callable[[Asked], Row | Answer],
        sampling: Callable[[Row], SamplingParams],
        answer: Callable[[Row, Any], Answer],
    ) -> Iterator[Answer]:
        """Add requests while there is room in the queue, make a step, give what has ended."""
        source, more = iter(requests), True
        running: dict[str, Row] = {}
        try:
            while more or running:
                while more and len(running) < self._most:
                    request = next(source, None)
                    if request is None:
                        more = False
                        break
                    row = read(request)
                    if not isinstance(row, Prompt | ScoredTokens):
                        yield row
                        continue
                    key = str(next(self._numbers))
                    self._add(key, row, sampling)
                    running[key] = row
                for output in self._step() if running else ():
                    yield answer(running.pop(output.request_id), output)
        finally:  # the caller wants no more, or something failed
            if self._engine is not None:
                self._engine.abort_request(list(running))

    def _add(self, key: str, row: Row, sampling: Callable[[Row], SamplingParams]) -> None:
        tokens = row.tokens if isinstance(row, Prompt) else row.tokens[:-1]
        try:
            self._engine.add_request(
                key, tokens_input(tokens), sampling(row), lora_request=self._adapter
            )
        except (ValueError, VLLMClientError) as error:
            raise ModelError(
                f"model '{self._name}': vLLM refuses request '{row.request.id}': {reason(error)}"
            ) from error

    def _step(self) -> list[Any]:
        """The requests that ended with this step."""
        advice = (
            f"model '{self._name}' ran out of memory in vLLM; lower engine.max_num_seqs, "
            "engine.max_num_batched_tokens or engine.gpu_memory_utilization"
        )
        with out_of_memory_as(advice):
            return [output for output in self._engine.step() if output.finished]

    def _sampling(self, prompt: Prompt) -> SamplingParams:
        request, wanted = prompt.request, prompt.request.sampling
        structure = None
        if request.structure is not None:
            structure = StructuredOutputsParams(
                json=request.structure.json_schema,
                choice=list(request.structure.choice) if request.structure.choice else None,
                regex=request.structure.regex,
            )
        return SamplingParams(
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
            max_tokens=prompt.limit,
            stop=list(wanted.stop),
            stop_token_ids=self._ends,
            seed=request.seed % 2**63,  # vLLM takes -1 for none
            logprobs=0 if request.wants_logprobs else None,  # of the chosen token only
            structured_outputs=structure,
            thinking_token_budget=wanted.thinking_token_budget,
            detokenize=bool(wanted.stop),  # to find stop strings; the text is decoded from tokens
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # no other request has it
        )

    def _completion(self, prompt: Prompt, output: Any) -> Completion:
        (written,) = output.outputs
        tokens = list(written.token_ids)
        if written.finish_reason not in ("stop", "length"):
            error = f"vLLM gave the request up ({written.finish_reason})"
            return Completion(
                prompt.request.id, "", "error", len(prompt.tokens), len(tokens), error=error
            )
        logprobs = None
        if prompt.request.wants_logprobs:
            steps = zip(tokens, written.logprobs, strict=False)
            logprobs = tuple(step[token].logprob for token, step in steps)
        stopped = written.finish_reason == "stop"
        return self._codec.completion(prompt, tokens, stopped, logprobs)


def _forced(row: ScoredTokens) -> SamplingParams:
    """Score by generating one token: all but the last are prompt, and only the last is allowed.

    So a text that fills the context can be scored too. vLLM takes log-probabilities before it
    applies `allowed_token_ids`, so they are the model's own. For a rank up to n, the n - 1
    likeliest tokens are asked for as well.
    """
    likeliest = n_likeliest(row)
    return SamplingParams(
        temperature=0,
        max_tokens=1,
        allowed_token_ids=row.tokens[-1:],
        logprobs=likeliest,
        prompt_logprobs=likeliest if row.start < len(row.tokens) - 1 else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _score(row: ScoredTokens, output: Any) -> Score:
    (written,) = output.outputs
    if written.finish_reason not in ("stop", "length"):
        error = f"vLLM gave the request up ({written.finish_reason})"
        return Score(row.request.id, n_prompt_tokens=row.start, error=error)
    steps = [*(output.prompt_logprobs or [])[row.start :], *written.logprobs]
    places = [{token: each.logprob for token, each in step.items()} for step in steps]
    return score_of(row, places)
