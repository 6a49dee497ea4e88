"""What is taken for a secret, and that no part of one is shown."""

# ruff: noqa: E501

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from llm_distill.engines.openai.answers import MOST_WORDS, read_refusal
from llm_distill.errors import LONGEST_LINE, ConfigError, DataError, quoted
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.problems import LONGEST_MESSAGE, Problems
from llm_distill.publish.scrub import scrubbed
from llm_distill.runtime.record import RunRecord, StageRecord
from llm_distill.secrets import has_secret, is_secret_name, without_secrets

# fmt: off
SECRET_NAMES = [
    "GITHUB_PAT", "GH_TOKEN", "HF_TOKEN", "GITHUBTOKEN", "HUGGING_FACE_HUB_TOKEN", "NPM_TOKEN",
    "OPENAI_API_KEY", "OPENAI_APIKEY", "openaiApiKey", "AzureOpenAIKey", "API_KEYS", "KEY", "x-api-key",
    "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "SSH_PRIVATE_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS", "my_credentials", "DB_CREDS", "PASSPHRASE", "GPG_PASSPHRASE",
    "PGPASSWORD", "ROOT_PASS", "MYSQL_PWD", "DB_PASSWORD", "DB_PASSWD", "SMTP_PASS", "HF_AUTH",
    "DATABASE_URL", "REDIS_URL", "MONGODB_URI", "POSTGRES_URL", "SQLALCHEMY_DATABASE_URI",
    "SENTRY_DSN", "AZURE_STORAGE_CONNECTION_STRING", "DB_CONN_STR", "SLACK_WEBHOOK_URL",
    "AUTHORIZATION", "PROXY_AUTHORIZATION", "COOKIE", "SESSION_COOKIES", "JWT", "SIGNING_KEY",
    "SIGNING", "CLIENT_SECRET", "DJANGO_SECRETS", "BEARER",
]
PLAIN_NAMES = [
    "TOKENIZER", "TOKENIZER_DIR", "MAX_TOKENS", "TOKENS", "KEYBOARD", "MONKEY_DIR", "MONKEYS", "PATH",
    "PWD", "OLDPWD", "PASSAGES", "PASS_AT_K", "PASS_RATE", "PATTERN", "COMPAT", "PATIENCE", "AUTHOR",
    "EOS_TOKEN", "PAD_TOKEN", "CHARS_PER_TOKEN", "PUBLIC_KEY", "PRIMARY_KEY", "KEY_COLUMN", "KEYS",
    "SORT_KEY", "SECRETARY", "COOKIECUTTER_DIR", "BASE_URL", "MODEL_URL", "API_URL", "DATABASE_DIR",
    "HOME", "USER", "HF_HOME", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES", "DESIGNING", "SASKIA",
    "CREDITS", "ENCODING", "RUN_ID",
]
_B64 = "Zm9vYmFyYmF6cXV4" * 3
SECRET_TEXTS = [
    "hf_abcdefGHIJKLmnop1234567890", "sk-proj-abc123def456ghi789", "sk-ant-api03-abc_DEF-123456",
    "ghp_abcdefghij0123456789", "gho_abcdefghij0123456789", "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "glpat-abcdefghij0123456789", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv", "xoxb-123456789012-abcdefghij", "xoxp-1234567890-abc",
    "sk_live_abcdefghij0123456789", "gsk_abcdefghij0123456789abcd", f"pypi-{_B64}",
    "npm_abcdefghij0123456789abcdefghij012345", "nvapi-abcdefghij0123456789-_abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
    f"-----BEGIN RSA PRIVATE KEY-----\n{_B64}\n{_B64}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\n{_B64}",
]
IN_CONTEXT = [
    ("postgresql://ann:hunter2@db/x", "hunter2"), ("redis://:hunter2@db:6379", "hunter2"),
    ("https://hooks.slack.com/services/T00/B00/abcdEFGH", "abcdEFGH"),
    ("Authorization: Bearer abcdef1234567890abcd==", "abcdef1234567890abcd"),
    ("https://x.blob.core.windows.net/a?sv=1&sig=aB%2Fc9xyz", "aB%2Fc9xyz"),
    ("https://s3.aws.com/a?X-Amz-Signature=0123abcd&x=1", "0123abcd"),
    ("https://host/v1?api_key=hunter2&x=1", "hunter2"), ("Server=db;Password=hunter2;", "hunter2"),
]
PLAIN_TEXTS = [
    "task-1-of-a-very-long-name-1", "hf-internal/tiny_random_model", "sk-learn-a-tutorial", "hf_hub",
    "https://host:8000/v1", "https://host/v1?page=2", "a bearer of bad news that is long", "eyJ.eyJ",
    "user@example.com", "What is 2:3 @ 4?", "x://y/a:b@c", "-----BEGIN CERTIFICATE-----", "ghp_short",
    "the key=value pairs", "token=<ans>", "Bearer authentication-is-required",
]
# fmt: on


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("secret", SECRET_TEXTS)
def test_looks_of_secrets(secret: str) -> None:
    assert has_secret(secret)
    assert without_secrets(f"with ({secret}), no", {}) in ("with (***), no", "with (***")


@pytest.mark.parametrize(("text", "secret"), IN_CONTEXT)
def test_secrets_by_what_is_around_them(text: str, secret: str) -> None:
    assert has_secret(text)
    assert secret not in without_secrets(text, {})
    assert without_secrets(text, {}).startswith(text[:7])  # the rest stays


@pytest.mark.parametrize("text", PLAIN_TEXTS)
def test_looks_of_other_things(text: str) -> None:
    assert without_secrets(text, {}) == text


def test_values_of_secret_variables_are_hidden_whatever_they_look_like() -> None:
    environment = {"MY_PASSPHRASE": "correct horse", "GREETING": "good morning", "DB_PWD": "short"}
    said = without_secrets("correct horse, good morning, short", environment)
    assert said == "***, good morning, short"


SECRET = "ghp_abcdefghij0123456789"


@pytest.mark.parametrize("before", range(0, 500, 7))
def test_no_part_of_a_secret_survives_where_a_text_is_cut(before: int) -> None:
    text = "x " * (before // 2) + SECRET + " and so on" * 500
    problems = Problems("p.yaml", {})
    problems.add(("a",), text)
    shown = [
        problems.found[0],
        quoted(text),
        read_refusal(500, text.encode()).words,
        read_refusal(500, (b" " * 4 * before + text.encode())).words,
    ]
    assert all("ghp" not in each and "0123456789" not in each for each in shown)
    assert all(len(each) < LONGEST_MESSAGE + MOST_WORDS for each in shown)


def test_a_message_that_quotes_a_book_keeps_its_place_and_its_remedy() -> None:
    said = str(DataError("rows.jsonl:3: the id '" + "word " * 3000 + "' is long; shorten it"))
    assert said.startswith("rows.jsonl:3: the id 'word")
    assert said.endswith("' is long; shorten it")
    assert len(said) < LONGEST_LINE + 10
    assert len(str(DataError("a list:\n" + "\n".join(["problem " * 10] * 40)))) > 3000  # is whole


def test_messages_logs_and_records_are_without_secrets(tmp_path: Path) -> None:
    assert str(DataError(f"it says {SECRET}")) == "it says ***"
    record = RunRecord(
        directory=tmp_path, name="toy/1", state="running", pipeline="p", profile=None,
        seed=1, pid=1, started=1.0, stages={"numbers": StageRecord()},
    )  # fmt: skip
    (record.directory / "logs").mkdir(parents=True)
    with pytest.raises(RuntimeError), record.logging("numbers"):  # noqa: PT012
        logging.getLogger("some.library").warning("sent %s", SECRET)
        raise RuntimeError(f"the server says {SECRET}")
    record.stopped(RuntimeError(SECRET), "numbers")
    for file in ("logs/numbers.log", "run.json"):
        said = (record.directory / file).read_text()
        assert "***" in said and SECRET not in said  # noqa: PT018


def test_cards_and_recipes_are_without_secrets_of_other_machines() -> None:
    assert scrubbed({"a": [f"key {SECRET}"]}, {}) == {"a": ["key ***"]}


def test_a_key_among_the_fields_of_every_request_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: p\nmodels:\n  t:\n    model_name_or_path: m\n"
        "    engine: {kind: openai, base_url: http://h/v1, extra_body: {api_key: abc}}\n"
        "stages:\n  rows: {stage: load_dataset, path: data/word_problems}\n"
    )
    with pytest.raises(ConfigError, match="extra_body.api_key: 'api_key' looks like a secret"):
        load_pipeline(str(file))
