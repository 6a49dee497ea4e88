"""What is a secret: by the name of its variable, or by the looks of the text. Decided only here.

Used where a secret could be kept or shown: `${VAR}` and texts in pipeline files, messages, logs, a
run's record, cards and recipes. Both are guesses; a secret without a telling name and a known form
is not found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache

SHORTEST_VALUE = 8
"""Characters; a shorter value of a variable occurs in too many texts by chance."""
HIDDEN = "***"

# Parts of a name between underscores. The first group also counts at the end of a longer word, as
# in PGPASSWORD and GITHUBTOKEN; none counts at its beginning, as in TOKENIZER and KEYBOARD.
_NAME = re.compile(
    r"""
    (TOKEN|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PASSCODE|PGPASS|API_?KEYS?|(ACCESS|PRIVATE)KEY
      |CREDENTIALS?|AUTHORIZATION|COOKIES?|WEBHOOKS?)(_|$)
    |(^|_)(KEY|PASS|PAT|PWD|AUTH|CREDS?|DSN|JWT|BEARER|SIGNING|SAS|CONN(ECTION)?_STR(ING)?)(_|$)
    |(^|_)(DATABASE|DB|POSTGRES(QL)?|PG|MYSQL|MARIADB|MONGO(DB)?|REDIS|AMQP|RABBITMQ|BROKER)_UR[LI](_|$)
    """,
    re.VERBOSE,
)
_PLAIN_NAME = re.compile(
    r"""
    (OLD)?PWD$                                          # the shell's folders
    |.*(^|_)(BOS|EOS|PAD|UNK|SEP|CLS|MASK|PER)_TOKEN(_|$)   # of a tokenizer
    |.*(^|_)(PUBLIC|PRIMARY|FOREIGN|SORT|GROUP|CACHE|ROW)_KEY(_|$)
    |.*(^|_)KEY_(COLUMN|FIELD|NAME)$
    |.*(^|_)PASS_(AT|RATE)(_|$)
    """,
    re.VERBOSE,
)

_TEXT = re.compile(
    r"""
    (?<![A-Za-z0-9])(?:
      (?:hf|api_org)_[A-Za-z0-9]{16,}                 # Hugging Face
      |sk-(?=[\w-]*\d)[\w-]{16,}                      # OpenAI, Anthropic, OpenRouter
      |gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}
      |(?:AKIA|ASIA)[A-Z0-9]{12,}                     # AWS
      |AIza[\w-]{30,}                                 # Google
      |xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}            # Slack
      |[sr]k_(?:live|test)_[A-Za-z0-9]{16,}           # Stripe
      |gsk_[A-Za-z0-9]{20,}|nvapi-[\w-]{20,}|xai-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{30,}
      |npm_[A-Za-z0-9]{30,}|pypi-[\w-]{40,}
      |eyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?        # a JSON Web Token
    )
    |-----BEGIN\ [A-Z ]*PRIVATE\ KEY-----(?:.*?-----END\ [A-Z ]*PRIVATE\ KEY-----|.*)
    |(?<=://)[^/\s:@"']*:[^/\s@"']+(?=@)              # user and password of an address
    |(?<=hooks\.slack\.com/services/)[\w/]+
    |(?<=[Bb]earer\ )(?=\S*\d)[\w.~+/-]{16,}=*
    |(?<=[?&;])(?i:[\w-]*(?:api[_-]?key|token|signature|secret|passw(?:or)?d|pwd)|sig)=[^&;\s"']+
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=10_000)
def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret: `GITHUB_PAT`, `openaiApiKey`, `DB_PWD`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    words = re.sub(r"[^A-Za-z0-9]+", "_", spaced).upper()
    return bool(_NAME.search(words)) and not _PLAIN_NAME.match(words)


def has_secret(text: str) -> bool:
    """Whether a part of the text looks like a secret."""
    return bool(_TEXT.search(text))


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with `***` for what looks like a secret, and for values of secret variables.

    Call it before a text is cut: of half a secret nothing can be told.

    Args:
        environment: The variables; the process's own by default.
    """
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= SHORTEST_VALUE and value in text and is_secret_name(name):
            text = text.replace(value, HIDDEN)
    return _TEXT.sub(HIDDEN, text)
