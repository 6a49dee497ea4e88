"""Words of many languages, and the signs that make another text of one."""

# A question stays on one line in every language.
# ruff: noqa: E501

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.contamination import SeenTexts
from llm_distill.methods.near_duplicates import first_of_each, near_duplicates
from llm_distill.methods.words import ngrams, normalise, numbers, words

# Language: a test's question, the same within other text, and one of the same kind that is new.
LANGUAGES = {
    "English": (
        "A farmer has forty two hens and sells nine of them on Monday, how many hens are left then?",
        "Solve this. {} Show your work.",
        "A farmer has sixty one goats and buys nine more of them on Friday, how many goats now?",
    ),
    "German": (
        "Ein Bäcker backt früh achtzig Brötchen und verkauft bis zum Mittag davon mehr als die Hälfte, "
        "wie viele übrige größere Brötchen bleiben?",
        "Löse die Aufgabe. {} Zeige den Weg.",
        "Ein Bäcker verkauft am Abend zwanzig Brote und backt bis zum Morgen doppelt so viele neue Brote.",
    ),
    "Chinese": (
        "图书馆有八十四本故事书，上周借出了二十九本，这周又还回来十七本，请问现在图书馆一共有多少本故事书？",
        "请解答下面的题目。{}写出过程。",
        "果园里有五十棵苹果树，去年又种了三十棵梨树，今年砍掉了六棵，请问现在果园里一共有多少棵树？",
    ),
    "Japanese": (
        "花子さんは色紙を五十二枚持っていて、妹に十八枚あげました。そのあと母から二十枚もらいました。今は何枚ありますか。",
        "次の問題を解きなさい。{}式も書きなさい。",
        "駅前の本屋では一日に平均三十冊の雑誌が売れます。一週間では全部で何冊売れることになりますか。",
    ),
    "Thai": (
        "แม่ค้ามีส้มแปดสิบสี่ผลขายไปในตอนเช้ายี่สิบเก้าผลแล้วซื้อมาเพิ่มอีกสิบเจ็ดผลตอนนี้แม่ค้ามีส้มทั้งหมดกี่ผล",
        "จงแก้โจทย์นี้ {} แสดงวิธีทำ",
        "ในสวนมีต้นมะม่วงห้าสิบต้นปีที่แล้วปลูกเพิ่มอีกสามสิบต้นปีนี้ตัดออกหกต้นในสวนเหลือต้นไม้กี่ต้น",
    ),
    "Hindi": (
        "मोहन के पास पैंतालीस कंचे हैं और वह अपने भाई को अठारह कंचे देता है तो उसके पास कितने कंचे बचते हैं",
        "हल कीजिए। {} विधि लिखिए।",
        "गीता के पास तीस पुस्तकें हैं और वह हर महीने दो नई पुस्तकें लेती है तो एक वर्ष में कितनी होंगी",
    ),
    "Arabic": (
        "لدى سامي خمسة وأربعون كتابا أعطى أخاه منها ثمانية عشر كتابا ثم اشترى سبعة كتب فكم كتابا لديه الآن",
        "حل المسألة التالية. {} اكتب الحل.",
        "في الحديقة ثلاثون شجرة زرع البستاني عشر شجرات أخرى ثم قطع أربع شجرات فكم شجرة بقيت في الحديقة",
    ),
    "Korean": (
        "민수는 구슬을 마흔다섯 개 가지고 있었는데 동생에게 열여덟 개를 주고 친구에게 일곱 개를 받았다 지금 민수는 구슬이 몇 개 있는가",
        "다음 문제를 풀어라. {} 풀이를 써라.",
        "영희네 농장에는 닭이 서른 마리 있고 오리가 열두 마리 있는데 오늘 닭 다섯 마리를 팔았다면 모두 몇 마리가 남았는가",
    ),
    "Russian": (
        "У фермера было сорок две курицы и он продал девять из них в понедельник сколько кур у него осталось",
        "Решите задачу. {} Покажите ход.",
        "У садовника было тридцать яблонь и весной он посадил ещё двенадцать груш сколько деревьев стало всего",
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_is_found_in_other_text_in_every_language(language: str) -> None:
    question, around, other = LANGUAGES[language]
    seen = SeenTexts({"q": question}, 13)
    assert set(seen.found_in(around.format(question))) == {"q"}
    assert not seen.found_in(other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nearly_equal_questions_are_found_in_every_language(language: str) -> None:
    question, _, other = LANGUAGES[language]
    texts = [question, f"{question}!", other, unicodedata.normalize("NFD", question)]
    assert near_duplicates(texts, threshold=0.8, n=3) == [None, 0, None, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Find f'(2).", "Find f(2)."),
        ("Find f''(2).", "Find f'(2)."),
        ("Evaluate 6!/3!.", "Evaluate 6/3."),
        ("Evaluate n!.", "Evaluate n."),
        ("Evaluate (n+1)!.", "Evaluate (n+1)."),
        ("What is .5 times 8?", "What is 5 times 8?"),
        ("What is x² + 1?", "What is x2 + 1?"),
        ("What is 7 - 5?", "What is 7 5?"),
        ("What is 1,5?", "What is 15?"),
        ("Is 3 < 4?", "Is 3 > 4?"),
        ("काम", "कम"),
        ("三十六个", "三十七个"),
    ],
)
def test_signs_that_carry_meaning_make_another_text(one: str, other: str) -> None:
    assert first_of_each([one, other]) == [None, None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2 + 2?", "what is  2 + 2"),
        ("café", "cafe\u0301"),
        ("x² + 1", "x^2 + 1"),
        ("−5", "-5"),
        ("１２ 个，三", "12个三"),
        ("«Bonjour», dit-il", "« Bonjour » dit il"),
        ("我有三个。", "我有三个"),
        ("“Stop!” he said.", "Stop he said"),
    ],
)
def test_the_same_text_written_otherwise_is_the_same(one: str, other: str) -> None:
    assert first_of_each([one, other]) == [None, 0]


def test_numbers_of_every_script_are_numbers() -> None:
    assert numbers("三个 and 3 and ३ and three") == ("三", "3", "३")


def test_a_run_in_a_script_without_spaces_is_longer() -> None:
    assert ngrams("一二三四五", 2) == {"一 二 三 四", "二 三 四 五"}
    assert ngrams("กขคงจ", 1) == {"ก ข ค ง", "ข ค ง จ"}
    assert ngrams("a b 一 二 c", 2) == {"a b", "a b 一", "b 一 二", "一 二 c"}


@given(st.text(max_size=60), st.integers(1, 5))
def test_normalising_twice_changes_nothing(text: str, n: int) -> None:
    assert normalise(normalise(text)) == normalise(text)
    assert all(words(gram) for gram in ngrams(text, n)) or not words(text)
