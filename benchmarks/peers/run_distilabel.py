"""The same job with distilabel: one answer a prompt.

    python run_distilabel.py PROMPTS.jsonl BASE_URL OUTPUT CONCURRENCY

OUTPUT is the folder of its cache, in which it also writes its rows; run again, it goes on from
there, as it does by itself (`use_cache`). The last line printed is {"rows": …, "seconds": …}, the
seconds those of `Pipeline.run`, without imports.

Set, and why:
- input_batch_size = CONCURRENCY: a step sends one batch to the server at a time, all of it at once,
  and waits for it to end. This is the documented way to a number of calls at once. Not several
  `replicas` of smaller batches: each is a process, more than two cores are good for.
- batch_size of the loader the same, so that batches need no cutting.
- add_raw_output and add_raw_input off: no second copy of each prompt and answer is written.
- The log begins at warnings: its client's library says a line about each request.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["DISTILABEL_LOG_LEVEL"] = "WARNING"

from distilabel.models import OpenAILLM  # type: ignore[import-not-found]
from distilabel.pipeline import Pipeline  # type: ignore[import-not-found]
from distilabel.steps import LoadDataFromDicts  # type: ignore[import-not-found]
from distilabel.steps.tasks import TextGeneration  # type: ignore[import-not-found]


def main() -> None:
    prompts, base_url, output, concurrency = sys.argv[1:]
    lines = Path(prompts).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    data = [{"id": row["id"], "instruction": row["question"]} for row in rows]
    start = time.perf_counter()
    with Pipeline(name="loopback", cache_dir=output) as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=int(concurrency))
        generate = TextGeneration(
            llm=OpenAILLM(
                model="loopback",
                base_url=base_url,
                api_key="none",
                generation_kwargs={"max_new_tokens": 256, "temperature": 0.0},
            ),
            input_batch_size=int(concurrency),
            add_raw_output=False,
            add_raw_input=False,
        )
        load >> generate
    distiset = pipeline.run(use_cache=True)
    seconds = time.perf_counter() - start
    train = distiset["default"]["train"]
    n_answered = sum(text is not None for text in train["generation"])
    print(json.dumps({"rows": n_answered, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
