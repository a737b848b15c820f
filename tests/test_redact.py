"""What may never be written down, and what has to stay as it is."""

from __future__ import annotations

import ast
import json
import re
import timeit
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent
from agent import redact as module
from agent.redact import MASK, redact, refresh

KEY = "Zx9Qw7Er5Ty3Ui1Op0As"  # 20 characters such as keys are made of

SHAPES = [
    f"sk-{KEY}",
    f"sk-proj-{KEY}_{KEY}-{KEY}",
    f"sk-ant-api03-{KEY}-{KEY}AA",
    f"sk-or-v1-{KEY.lower()}",
    f"AIza{KEY}_-{KEY[:13]}",
    f"ghp_{KEY}{KEY[:16]}",
    f"gho_{KEY}{KEY[:16]}",
    f"ghs_{KEY}{KEY[:16]}",
    f"github_pat_{KEY}_{KEY}",
    f"glpat-{KEY}",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    f"hf_{KEY}{KEY[:14]}",
    f"xoxb-123456789012-{KEY}",
    f"xapp-1-{KEY}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{KEY}",
]

PLACES = [
    (f"Authorization: Bearer {KEY}", KEY),
    (f"authorization: basic {KEY}==", KEY),
    (f"curl -H 'Authorization: Bearer {KEY}' https://x.org", KEY),
    (f"Authorization: {KEY}", KEY),
    (f'headers = {{"Authorization": "Bearer {KEY}"}}', KEY),
    (f"X-Api-Key: {KEY}", KEY),
    (f"x-api-key:{KEY}\r\nAccept: */*", KEY),
    (f"api-key: {KEY}", KEY),
    (f"x-goog-api-key: {KEY}", KEY),
    (f"Cookie: session={KEY}; theme=dark", KEY),
    (f"Set-Cookie: id={KEY}; Path=/; HttpOnly", KEY),
    (f"https://x.org/v1?key={KEY}", KEY),
    (f"GET /v1/models?a=1&token={KEY} HTTP/1.1", KEY),
    (f"https://x.org/?api_key={KEY}&page=2", KEY),
    (f"https://x.org/?access_token={KEY}#top", KEY),
    ("https://x.org/?user=me&password=hunter2hunter", "hunter2hunter"),
    (f"postgres://me:{KEY}@db.example.org:5432/main", KEY),
    ("redis://:p4ssword!@localhost", "p4ssword!"),
    (f"https://{KEY}@github.com/org/repo.git", KEY),
    (f'{{"api_key": "{KEY}", "model": "m"}}', KEY),
    (f"{{'OPENAI_API_KEY': '{KEY}'}}", KEY),
    (json.dumps(json.dumps({"password": KEY})), KEY),
    (json.dumps({"password": 'quo"te\\and\u00e9more'}), "more"),
    (f"-----BEGIN PRIVATE KEY-----\n{KEY}\n{KEY}\n-----END PRIVATE KEY-----", KEY),
    (f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{KEY}\n\n{KEY}{KEY}\n{KEY}", KEY),
    (json.dumps({"pem": f"-----BEGIN EC PRIVATE KEY-----\n{KEY}\n-----END EC PRIVATE KEY-----"}), KEY),
]

ORDINARY = [
    "",
    "token=5",
    "The call used 5 tokens; token=5, key=7 and sk-learn are words, and so is ASIA.",
    "a task-key and a risk-averse disk-bound network-attached mask-based approach",
    "sk-learn-compatible-estimators are fine",
    "sort(key=lambda row: row.token, reverse=True)",
    "def f(password=None, api_key=os.environ['OPENAI_API_KEY'], token=token): ...",
    'client = OpenAI(api_key=os.environ["OPENAI_API_KEY"], password=settings.password)',
    'headers = {"Authorization": f"Bearer {token}", "x-api-key": settings.ANTHROPIC_API_KEY}',
    'headers = {"Authorization": "Bearer " + token, "Cookie": cookie}',
    "curl -H 'Authorization: Bearer $OPENAI_API_KEY' -H 'x-api-key: ${KEY}'",
    "Authorization: Bearer <token>",
    "Send the header Authorization: it is required. The api-key: optional. Cookie: a small cake.",
    'url = f"https://x.org/?key={key}&token={token}"',
    "https://x.org/?key=5&page=2#token",
    "postgres://{user}:{password}@{host}/db and postgres://user:$PASSWORD@host and http://localhost:8080/a@b",
    "mailto:someone@example.org, ssh git@github.com:org/repo.git, time 12:30 @ home",
    "if (flags&key==1 || a?token:b) { x = y&token; }",
    '{"type": "object", "properties": {"key": {"type": "string"}, "api_key": {"type": "string"}}}',
    '{"required": ["password", "api_key"], "max_tokens": 1024, "token": "end_of_text", "key": "sepal_length"}',
    'PEM = "-----BEGIN PRIVATE KEY-----"  # the marker that begins one, up to "-----END PRIVATE KEY-----"',
    "hf_hub_download(repo) and xoxo and AIzawa and AKIA and ghp_ and eyJ.eyJ. are no keys",
    "sha256 b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "a scheme such as c://d or s3://bucket/key=value/part=7",
    "[redacted] and sk-[redacted]",
    "\ud800 half a character, \x00 and 漢字",
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No secret of this machine, until a test sets one."""
    for name in list(module.os.environ):
        if name.upper().endswith(module.NAMES):
            monkeypatch.delenv(name)
    refresh()
    yield monkeypatch
    refresh()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("around", ["{}", "key: {}.", "({})", "a\n{}\nb", '"{}"', "x={},", "%3D{}", "/{}/", "漢{}"])
def test_shapes_are_masked_wherever_a_word_begins(shape, around):
    text = around.format(shape)
    for given_text in (text, json.dumps(text), json.dumps(text, ensure_ascii=False), json.dumps(json.dumps(text))):
        clean = redact(given_text)
        assert MASK in clean and shape not in clean and shape[-8:] not in clean, clean


@pytest.mark.parametrize(("text", "secret"), PLACES)
def test_places_are_masked_and_what_is_around_stays(text, secret):
    clean = redact(text)
    assert secret not in clean and MASK in clean, clean
    assert redact(clean) == clean
    assert secret not in redact(json.dumps(text)), "also inside of a line of the journal"


def test_only_the_secret_goes():
    assert redact(f"GET https://x.org/?key={KEY}&page=2 Authorization: Bearer {KEY}") == (
        f"GET https://x.org/?key={MASK}&page=2 Authorization: Bearer {MASK}"
    )
    assert redact(f"postgres://me:{KEY}@db:5432/main") == f"postgres://me:{MASK}@db:5432/main"
    assert redact({"password": KEY, "n": 1}) == {"password": MASK, "n": 1}


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text):
    assert redact(text) == text
    assert redact({"text": [text]}) == {"text": [text]}


def test_programs_stay():
    """Our own source is text such as a candidate's; what looks like a secret there is this module's subject."""
    for path in Path(agent.__file__).parent.rglob("*.py"):
        if path.stem != "redact":
            source = path.read_text(encoding="utf-8")
            assert redact(source) == source, path
            ast.parse(redact(source))


def test_the_environments_secrets_are_masked_wherever_they_occur(environment):
    redact("")
    environment.setenv("MY_SERVICE_TOKEN", 'open "sesame" ü')
    environment.setenv("db_password", "correcthorse")
    environment.setenv("SHORT_KEY", "abc")
    environment.setenv("KEYBOARD", "not a secret")
    assert redact("correcthorse") == "correcthorse", "the environment is read once"
    refresh()
    value = {"a correcthorse battery": ['say: open "sesame" ü!'], "n": ("xcorrecthorsex", 3, None, True, 1.5)}
    assert redact(value) == {
        f"a {MASK} battery": [f"say: {MASK}!"],
        "n": (f"x{MASK}x", 3, None, True, 1.5),
    }
    for ascii_only in (True, False):
        assert "sesame" not in redact(json.dumps(value, ensure_ascii=ascii_only))
    assert "sesame" not in redact("https://x.org/?q=open%20%22sesame%22%20%C3%BC")
    assert redact("abc, not a secret") == "abc, not a secret"


def test_extra_secrets():
    assert redact({"a": "with fancy-text inside"}, ("fancy-text",)) == {"a": f"with {MASK} inside"}
    assert redact("none of it", ["none", "", "redacted"]) == "none of it", "too short to be told from words"


def test_fields_are_masked_whole():
    given = {
        "Authorization": "Bearer short-one",
        "authorization": "Bearer <token>",
        "Proxy-Authorization": "open sesame",
        "Cookie": "a=b; c=d e",
        "api_key": 'with"quote\\and more'.replace(" ", ""),
        "nested": [{"CLIENT_SECRET": "abcdefgh", "auth_token": "{token}"}],
        "password": {"type": "string", "description": "the user's password"},
        "token": "end_of_text",
    }
    assert redact(given) == {
        "Authorization": f"Bearer {MASK}",
        "authorization": "Bearer <token>",
        "Proxy-Authorization": MASK,
        "Cookie": MASK,
        "api_key": MASK,
        "nested": [{"CLIENT_SECRET": MASK, "auth_token": "{token}"}],
        "password": {"type": "string", "description": "the user's password"},
        "token": "end_of_text",
    }


CANARIES = st.sampled_from([*SHAPES, *(text for text, _ in PLACES), "environment-canary"])
TEXTS = st.lists(st.one_of(st.text(max_size=20), CANARIES, st.sampled_from(ORDINARY)), max_size=4).map(" ".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_no_canary_survives_and_json_stays_json(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_TOKEN", "environment-canary")
        refresh()
        clean = redact(value)
        assert redact(clean) == clean, "twice is once"
        line = json.dumps(clean, ensure_ascii=False)
        canaries = [*SHAPES, *(secret for _, secret in PLACES if secret != "more"), "environment-canary"]
        assert not any(canary in line for canary in canaries), line
        assert _frame(clean) == _frame(value)

        # The journal looks at the line first, so whatever is masked in the value has to show in the line.
        text = json.dumps(value, ensure_ascii=False)
        masked = redact(text)
        json.loads(masked)
        assert redact(masked) == masked
        assert not any(canary in masked for canary in canaries), masked
        if clean != value:
            assert masked != text
    refresh()


def _frame(value):
    """The value without its texts; keys that became equal may have merged."""
    if isinstance(value, dict):
        return "{}" if any(MASK in str(redact(key)) for key in value) else [_frame(item) for item in value.values()]
    if isinstance(value, list):
        return [_frame(item) for item in value]
    return "text" if isinstance(value, str) else value


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_taken_and_twice_is_once(text):
    assert redact(redact(text)) == redact(text)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz .,\n'\"()", max_size=300))
def test_words_stay(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----" * 4000,
        "-----BEGIN PRIVATE KEY-----" + "A B " * 30000,
        "://a:" * 20000,
        "&a_" * 30000,
        '"a_' * 30000,
        '\\\\"api_key' * 10000,
        "sk-" * 30000,
        "eyJ" * 30000 + ".",
        "api-key:" * 12000,
        "authorization: " * 7000,
        "cookie: a=b;" * 9000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_long(text):
    """What a model says is hostile; 100 kB of it may not stop the run."""
    text += " api_key: @ = ://"
    assert min(timeit.repeat(lambda: redact(text), number=1, repeat=2)) < 1.0


def test_text_without_any_trigger_is_quick():
    line = json.dumps(
        {"id": 12, "output": {"value": 0.12345, "trace": [{"op": "fit", "notes": ["rose", "fell"]}] * 22}}
    )
    line = line[:1000]
    seconds = min(timeit.repeat(lambda: redact(line), number=20, repeat=150)) / 20
    assert seconds < 50e-6, f"{seconds * 1e6:.1f} µs; 5 on an idle machine"


PIECES = [
    *(word for rules in module.RULES.values() for words, _, _ in rules for word in words),
    *SHAPES,
    *("max_output_tokens", "AKIA", "AIza", "eyJ", ".eyJ", "://", "@", "https://u:", "Bearer ", "Basic ", "Cookie: a="),
    *('"api_key"', "'Pa\u017fsword'", "author\u0131zation", '\\"client_secret\\"', "X-Api-Key", "refresh-token", ': "'),
    *('"api_\u212aey": "', "&\u212aey="),
    *("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", "\\n", "\n", " ", "\u00a0", '"', "'", "\\"),
    *(":", "=", "?", "&", "{", "<", ",", KEY, KEY.lower(), "A" * 20, "\ud800", "é", MASK),
]


def plainly(text: str) -> str:
    """Every rule on every text, without a look at whether it could have anything to find."""
    for _ in range(module.PASSES):
        before = text
        for rules in module.RULES.values():
            for _, pattern, mask in rules:
                text = re.sub(pattern, mask, text)
        if text == before:
            return text
    return text


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=10).map("".join))
def test_nothing_is_missed_by_passing_over_rules_that_cannot_apply(text):
    masked = plainly(text)
    assert redact(text) == masked
    assert redact({"note": [text, text]}) == {"note": [masked, masked]}
    assert redact(text) == masked  # once more, when short texts are known


def test_texts_that_are_known_to_be_clean_are_looked_at_again_when_the_secrets_change(monkeypatch):
    text = "correct horse battery"
    monkeypatch.delenv("LLM_PASSWORD", raising=False)
    refresh()
    assert redact([text, text]) == [text, text]
    assert redact(text, extra_secrets=["horse battery"]) == f"correct {MASK}"
    monkeypatch.setenv("LLM_PASSWORD", "horse battery")
    refresh()
    assert redact(text) == f"correct {MASK}"
    monkeypatch.undo()
    refresh()


def test_what_is_remembered_of_clean_texts_is_bounded():
    refresh()
    for number in range(3 * module._SEVERAL):
        redact(f"row {number}")
    redact("x" * (module._SHORT + 1))
    known = module._mask(())._clean
    assert 0 < len(known) <= module._SEVERAL and max(map(len, known)) <= module._SHORT


def test_a_key_name_with_a_kelvin_sign_is_a_key_name() -> None:
    assert "hunter2secret99" not in redact('"api_\u212aey": "hunter2secret99"')
