"""lm-eval's model of transformers, for one that thinks before it answers."""

from __future__ import annotations

from typing import Any

from lm_eval.models.huggingface import HFLM

from llm_distill.rows.thoughts import opened_thought, still_open, tag_of


class ThinkingLM(HFLM):  # type: ignore[misc]
    """What is thought is no part of an answer, and what ends an answer ends no thought.

    lm-eval's own stops at a task's `until` inside a thought as well, and reads a thought that was
    cut by `max_gen_toks` as the answer.
    """

    def __init__(self, pretrained: Any, tokenizer: Any, batch_size: int | str) -> None:
        template = tokenizer.chat_template
        tag = tag_of(template if isinstance(template, str) else "", tokenizer.get_vocab())
        super().__init__(
            pretrained=pretrained,
            tokenizer=tokenizer,
            batch_size=batch_size,
            enable_thinking=True,
            think_end_token=f"</{tag}>",
        )
        self._opened = ""

    def apply_chat_template(self, *arguments: Any, **options: Any) -> str:
        """As lm-eval's; whether it opens a thought is noted."""
        text: str = super().apply_chat_template(*arguments, **options)
        self._opened = opened_thought(text)
        return text

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """As lm-eval's; nothing where the thought did not end."""
        text: str = super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)
        is_completion = skip_special_tokens and isinstance(tokens, list)
        return "" if is_completion and still_open(text, self._opened) else text

    def _model_generate(
        self, context: Any, max_length: int, stop: list[str], **options: Any
    ) -> Any:
        """Up to the end token. What ends an answer is cut off afterwards, by lm-eval."""
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        return super()._model_generate(context, max_length, [end], **options)
