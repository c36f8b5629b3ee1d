"""flagd's evaluator for Python: reads cases, one a line, and prints what it answers.

A case may name `rules`: known differences, each of which makes the evaluator do as mulkko does. `--rules` lists them
with their reasons.
"""

import contextlib
import importlib
import json
import logging
import math
import re
import sys
from types import SimpleNamespace

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

RULES = {}
# What flagd's operators look at besides their operands.
ROOT = {}
# Where the evaluator looks its own functions up.
FLAGD = vars(importlib.import_module(FlagdCore.__module__))
TARGETING = vars(importlib.import_module(FLAGD["targeting"].__module__))
STORE = vars(importlib.import_module(FLAGD["FlagStore"].__module__))
CUSTOM = vars(importlib.import_module(OPERATORS["fractional"].__module__))
BUILTINS = vars(importlib.import_module("json_logic.builtins"))
INTERPRETER = vars(importlib.import_module("json_logic.apply"))


def main():
    """Prints an answer for each case, or the rules."""
    if sys.argv[1:] == ["--rules"]:
        print(json.dumps({name: reason for name, (reason, _) in RULES.items()}))
        return
    for line in sys.stdin:
        case = json.loads(line)
        ROOT.clear()
        ROOT.update({**case["context"], "$flagd": {"flagKey": case["flag"]}})
        with following(case.get("rules", [])):
            print(json.dumps({"id": case["id"], **answer(case)}))


def answer(case):
    """What the evaluator says: by its public methods, of which the one for the variants' type is called."""
    core = FlagdCore()
    context = dict(case["context"])
    try:
        core.set_flags(case["document"])
        kind = type(next(iter(case["document"]["flags"][case["flag"]]["variants"].values())))
        resolve = {
            bool: core.resolve_boolean_value,
            str: core.resolve_string_value,
            int: core.resolve_float_value,
            float: core.resolve_float_value,
            dict: core.resolve_object_value,
        }[kind]
        details = resolve(case["flag"], None, EvaluationContext(context.pop("targetingKey", None), context))
    except OpenFeatureError as error:
        return {"reason": "ERROR", "errorCode": error.error_code.value}
    except Exception:
        # So it is for who asks through the SDK.
        return {"reason": "ERROR", "errorCode": "GENERAL"}
    members = {"value": details.value, "variant": details.variant, "reason": details.reason.value}
    return {name: value for name, value in members.items() if value is not None}


# Rules


def rule(name, reason, *places):
    """Makes a function a rule: called with the evaluator's own function, it gives the one that takes its place.

    A place is where the evaluator looks that function up: a dictionary and a key.
    """

    def add(make):
        RULES.setdefault(name, (reason, []))[1].extend((holder, key, make) for holder, key in places)
        return make

    return add


@contextlib.contextmanager
def following(names):
    """Has the evaluator follow these rules."""
    replaced = []
    for name in names:
        for holder, key, make in RULES[name][1]:
            replaced.append((holder, key, holder[key]))
            holder[key] = make(holder[key])
    try:
        yield
    finally:
        for holder, key, original in reversed(replaced):
            holder[key] = original


def number(value):
    """Any value as a number, as the rules in force have it."""
    return BUILTINS["to_number"](value)


def is_number(value):
    """Whether it is a number, which to Python booleans are too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Numbers


@rule("whole numbers", "Python's are exact; those of JSON have 53 bits", (BUILTINS, "to_number"))
def floats(original):
    return lambda value: float(original(value))


@rule("texts as numbers", "Python reads `1_000` and `nan`, but neither `0x1F` nor ` `", (BUILTINS, "to_number"))
def numbers_of_texts(original):
    return lambda value: text_number(value) if isinstance(value, str) else original(value)


@rule("[true]", "to Python it is 1, as its only item; by its text it is no number", (BUILTINS, "to_number"))
def numbers_of_lists(original):
    return lambda value: math.nan if value in ([True], [False]) and type(value[0]) is bool else original(value)


@rule("division by zero", "an error to Python, infinity or NaN in IEEE 754", (OPERATORS, "/"))
def division(original):
    def divide(data, a=None, b=None):
        a, b = float(number(a)), float(number(b))
        if b != 0:
            return a / b
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)

    return divide


@rule("%", "Python's has the divisor's sign and is an error for zero", (OPERATORS, "%"))
def remainder(original):
    def remain(data, a=None, b=None):
        a, b = float(number(a)), float(number(b))
        return math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)

    return remain


@rule("- null", "Python takes a second operand that is null for none, and negates the first", (OPERATORS, "-"))
def subtraction(original):
    return lambda data, a=None, *b: number(a) - number(b[0]) if b else -number(a)


@rule("NaN in min and max", "Python's depend on the order of operands", (OPERATORS, "min"), (OPERATORS, "max"))
def extremes(original):
    def extreme(data, *values):
        return math.nan if any(math.isnan(number(value)) for value in values) else original(data, *values)

    return extreme


def text_number(text):
    """What JavaScript's `Number(text)` gives."""
    text = text.strip(" \t\n\r\v\f\u00a0\ufeff\u2028\u2029")
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+", text):
        return float(int(text, 0))
    is_decimal = re.fullmatch(r"[+-]?(Infinity|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)", text)
    return float(text) if is_decimal else math.nan if text else 0.0


# Texts


@rule("texts of null and booleans", "Python's `cat` writes `null`, `True` and `False`", (BUILTINS, "to_string"))
def texts_of_constants(original):
    def text(value):
        return "" if value is None else str(value).lower() if isinstance(value, bool) else original(value)

    return text


@rule("texts of numbers", "Python's `cat` has 15 digits, and exponents of its own", (BUILTINS, "to_string"))
def texts_of_numbers(original):
    return lambda value: number_text(value) if is_number(value) else original(value)


@rule("names of numbers", "Python looks for `1.0` where JavaScript does for `1`", (FLAGD, "targeting"))
def names_of_numbers(original):
    def name(*arguments):
        value = original(*arguments)
        return number_text(value) if is_number(value) else value

    return name


def number_text(value):
    """What JavaScript's `String(number)` gives."""
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    digits = len(mantissa.lstrip("-").replace(".", ""))
    if -7 < int(exponent) < 0:
        return f"{value:.{digits - 1 - int(exponent)}f}"
    return f"{mantissa}e{int(exponent):+d}"


@rule("substr", "Python drops fractions in another way, and knows no infinity", (OPERATORS, "substr"))
def substr(original):
    def part(data, text=None, start=None, *length):
        text, start = BUILTINS["to_string"](text), characters(start, math.trunc)
        tail = text[start:] if -start < len(text) else text
        if not length:
            return tail
        length = characters(length[0], math.floor)
        return tail[:length] if length >= 0 else tail[: max(0, len(tail) + length)]

    return part


def characters(value, rounded):
    """How many characters a value stands for: none for NaN, more than any text has for infinity."""
    value = number(value)
    return 0 if math.isnan(value) else rounded(max(-1e15, min(1e15, value)))


# Comparing


@rule("===", "Python has 1 === true, and lists that are equal item by item", (OPERATORS, "==="), (OPERATORS, "!=="))
def identity(original):
    negated = original(None, 0, 1)
    return lambda data, a=None, b=None: same(a, b) != negated


@rule("in a list", "Python finds 1 where true is, and lists that are equal item by item", (OPERATORS, "in"))
def in_lists(original):
    def contained(data, item=None, items=None):
        return any(same(item, other) for other in items) if isinstance(items, list) else original(data, item, items)

    return contained


@rule("in a text", "Python finds null where `null` is, and the empty text in the empty text", (OPERATORS, "in"))
def in_texts(original):
    def contained(data, part=None, text=None):
        return False if isinstance(text, str) and (part is None or not text) else original(data, part, text)

    return contained


def same(a, b):
    """JavaScript's `===`, but lists and objects are never the same."""
    return not isinstance(a, (list, dict)) and isinstance(a, bool) == isinstance(b, bool) and a == b


EQUALS = ((BUILTINS, "op_equals"), (OPERATORS, "=="))


@rule("null == 0", "to Python it is", *EQUALS)
def nulls_equal(original):
    return lambda data, a=None, b=None: a is b if a is None or b is None else original(data, a, b)


@rule("list == itself", "JavaScript and Python ask whether it is the very same list", *EQUALS)
def lists_equal(original):
    def equal(data, a=None, b=None):
        both = isinstance(a, (list, dict)) and isinstance(b, (list, dict))
        return False if both else original(data, a, b)

    return equal


@rule(
    "order of null and lists",
    "Python compares null with a text as `null`, and two lists as numbers",
    *((BUILTINS, name) for name in ("less_than", "less_than_or_equal", "greater_than", "greater_than_or_equal")),
)
def order(original):
    def holds(a, b):
        textual = all(isinstance(value, (str, list, dict)) for value in (a, b))
        convert = BUILTINS["to_string" if textual else "to_number"]
        return original(convert(a), convert(b))

    return holds


@rule("third operand null", "Python takes it for none", *((OPERATORS, name) for name in ("<", "<=", ">", ">=")))
def between(original):
    return lambda data, *operands: all(original(data, a, b) for a, b in zip(operands, operands[1:]))


# Data


INSIDE = ((OPERATORS, "var"), (BUILTINS, "op_var"))


@rule("inside of texts", "as JavaScript, Python finds characters and `length` there", *INSIDE)
def var(original):
    def value(data=None, name=None, default=None):
        for step in BUILTINS["to_string"](name).split(".") if name not in (None, "") else []:
            if isinstance(data, list):
                data = data[int(step)] if re.fullmatch("[0-9]+", step) and int(step) < len(data) else None
            else:
                data = data.get(step) if isinstance(data, dict) else None
        return default if data is None else data

    return value


@rule("missing_some of one name", "none is missing to Python if it is in no list", (OPERATORS, "missing_some"))
def missing_some(original):
    return lambda data, needed=0, names=None: original(data, needed, names if isinstance(names, list) else [names])


APPLY = ((INTERPRETER, "apply"), (TARGETING, "jsonLogic"))


@rule("start of reduce", "Python takes it as it is written, without evaluating it", *APPLY)
def reduce(original):
    def apply(logic, data=None, operators=None):
        if isinstance(logic, dict) and list(logic) == ["reduce"]:
            items, body, start = logic["reduce"]
            logic = {"reduce": [items, body, INTERPRETER["apply"](start, data, operators)]}
        return original(logic, data, operators)

    return apply


# flagd's own


@rule("$ref in $evaluators", "flagd follows it to later ones only", (FLAGD, "FlagStore"))
def references(original):
    class FlagStore(original):
        def update(self, document):
            evaluators = document.get("$evaluators", {})
            return super().update({"flags": inlined(document["flags"], evaluators)})

    return FlagStore


@rule("\\ in $evaluators", "Python takes it for its own escape, even that of what is not ASCII", (STORE, "re"))
def escapes(original):
    def sub(pattern, by, text):
        return original.sub(pattern, lambda _: by, text)

    return SimpleNamespace(sub=sub, escape=original.escape)


def inlined(json_value, evaluators):
    """JSON with the evaluators in place of the references to them."""
    if isinstance(json_value, list):
        return [inlined(item, evaluators) for item in json_value]
    if not isinstance(json_value, dict):
        return json_value
    if list(json_value) == ["$ref"] and json_value["$ref"] in evaluators:
        return inlined(evaluators[json_value["$ref"]], evaluators)
    return {name: inlined(member, evaluators) for name, member in json_value.items()}


NUMERIC = "(0|[1-9][0-9]*)"
SUFFIX = r"[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*"
VERSION = re.compile(rf"[vV]?{NUMERIC}(\.{NUMERIC}(\.{NUMERIC}(-{SUFFIX})?(\+{SUFFIX})?)?)?")


@rule("versions", "Python reads `1-rc` as `1.0.0-rc`", (CUSTOM, "normalize_version"))
def versions(original):
    def version(value):
        text = number_text(value) if is_number(value) else value
        if not isinstance(text, str) or not VERSION.fullmatch(text):
            raise ValueError(value)
        return original(text)

    return version


@rule("whole weights", "Python takes no float, even if it is whole", (CUSTOM, "_parse_fraction"))
def weights(original):
    def fraction(entry):
        if isinstance(entry, list) and isinstance(entry[-1], float) and entry[-1].is_integer():
            entry = [*entry[:-1], int(entry[-1])]
        return original(entry)

    return fraction


@rule("fractional of lists and objects", "to Python they name variants that no flag has", (OPERATORS, "fractional"))
def named(original):
    def chosen(data, *operands):
        value = original(data, *operands)
        return None if isinstance(value, (list, dict)) else value

    return chosen


@rule("fractional over lists", "Python misses the targeting key in bodies of `map`", (OPERATORS, "fractional"))
def from_root(original):
    return lambda data, *operands: original(ROOT, *operands)


BY_LIST = ("fractional by a list", "flagd takes a list that was computed for the first value and its weight")


@rule(*BY_LIST, *APPLY)
def boxed(original):
    def apply(logic, data=None, operators=None):
        if isinstance(logic, dict) and list(logic) == ["fractional"] and isinstance(logic["fractional"][0], dict):
            by, *entries = logic["fractional"]
            by = INTERPRETER["apply"](by, data, operators)
            logic = {"fractional": [lambda: by, *entries]}
        return original(logic, data, operators)

    return apply


@rule(*BY_LIST, (CUSTOM, "_resolve_bucket_by"))
def unboxed(original):
    return lambda data, operands: (operands[0](), operands[1:]) if callable(operands[0]) else original(data, operands)


if __name__ == "__main__":
    logging.disable()
    main()
