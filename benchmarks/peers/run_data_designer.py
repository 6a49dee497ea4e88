"""The same job with data-designer: one answer a prompt.

    python run_data_designer.py PROMPTS.jsonl BASE_URL OUTPUT CONCURRENCY

OUTPUT is the folder of its artifacts; run again, it goes on from its last complete row group
(`resume`). The last line printed is {"rows": …, "seconds": …}, the seconds those of
`DataDesigner.create`, without imports.

Set, and why:
- max_parallel_requests = CONCURRENCY: its number of calls at once.
- jinja_rendering_engine native: the template is our own, so the guards of `secure` are not needed.
- otel_metrics_port None: no metrics endpoint is asked for.
- skip_health_check: no call that the other tools do not make.
- buffer_size (1000 rows a group), max_concurrent_row_groups (3) and max_in_flight_tasks (1024) stay
  as they come; they are enough to keep CONCURRENCY calls open up to about 500.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["NEMO_TELEMETRY_ENABLED"] = "false"

import data_designer.config as dd  # type: ignore[import-not-found]
from data_designer.interface import DataDesigner  # type: ignore[import-not-found]


def main() -> None:
    prompts, base_url, output, concurrency = sys.argv[1:]
    n_rows = len(Path(prompts).read_text(encoding="utf-8").splitlines())
    provider = dd.ModelProvider(name="loopback", endpoint=base_url, api_key="none")
    designer = DataDesigner(artifact_path=output, model_providers=[provider])
    designer.set_run_config(
        dd.RunConfig(
            jinja_rendering_engine=dd.JinjaRenderingEngine.NATIVE,
            otel_metrics_port=None,
        )
    )
    model = dd.ModelConfig(
        alias="loopback",
        model="loopback",
        provider="loopback",
        inference_parameters=dd.ChatCompletionInferenceParams(
            temperature=0.0, max_tokens=256, max_parallel_requests=int(concurrency)
        ),
        skip_health_check=True,
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=prompts))
    builder.add_column(
        dd.LLMTextColumnConfig(name="completion", model_alias="loopback", prompt="{{ question }}")
    )
    start = time.perf_counter()
    results = designer.create(builder, num_records=n_rows, resume=dd.ResumeMode.IF_POSSIBLE)
    seconds = time.perf_counter() - start
    n_answered = int(results.load_dataset()["completion"].notna().sum())
    print(json.dumps({"rows": n_answered, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
