"""Generates pairs of a flag definition and a context: always the same ones for a seed, whatever their number.

    python tests/differential/generate.py --count 10 --seed 1

An expression is made for the type that is wanted where it stands, so that most targetings name a variant; now and then
another type stands there. What a policy is refused for is not generated: unknown operators, wrong numbers of operands
of JsonLogic's own operators, a literal that `fractional` should hash, variants of mixed types. Nor is what evaluators
cannot agree on: the clock, names that mean something to one of them only (`../x`, `a\\.b`, `constructor`), and -0 in a
document, which JavaScript writes anew as 0.
"""

import argparse
import json
from random import Random

# How often an operand is of another type than the operator wants.
ODD = 0.05

TEXTS = ["free", "pro", "team", "de", "fr", "a@example.com", "b@example.org", "Ada Lovelace", "admin", "beta"]
ODD_TEXTS = [
    "", " ", "0", "1", "12", " 12 ", "1.5", "-1", "1e3", "0x1F", "1_000", "nan", "Infinity", "1px", "true", "null",
    "a,b", "$$5", "é", "물꼬를 트다", "😀x", "İstanbul", "\uff21", "a\n\"b\\", "on", "off", "red", "one",
]  # fmt: skip
NUMBERS = [-7, -3, 0, 1, 2, 3, 5, 10, 18, 25, 50, 99, 100, 0.5, 1.5, 9.99]
ODD_NUMBERS = [
    -1, -2.5, 1.0, 1e21, 1e-7, 0.1, 0.30000000000000004, 123456.789012345678, 2**31, 2**32 + 0.5,
    2**53, 1 - 2**53, 2**53 - 1,
]  # fmt: skip
VERSIONS = ["1.0.0", "1.2.3", "1.10.0", "2.0.0", "2.1.0-rc.1", "2.1.0-beta.11", "v1.2.3", "V2.0.0", "1.2.3+build.5"]
ODD_VERSIONS = [
    "1", "1.2", "v2", "v1.10", "1.2.3.4", "01.2.3", "01", "1.02", "1.2-rc.1", "1+b", "vv1.2.3", "=1.2.3", " 1.2.3", "",
    "1.0.0-", "1.0.0-01", "v", "latest", "x.y.z", "1.0.0-ä", "1.0.0+ä", 1, 2.1, 1.0, -1, None, True, ["1.2.3"],
]  # fmt: skip
COMPARISONS = ["=", "!=", "<", "<=", ">", ">=", "^", "~"]

# What the context says, by type; a body of `map` and its like sees an item only.
CONTEXT = {
    "boolean": ["beta", "user.admin", "device.touch"],
    "number": ["age", "score", "amount", "user.level", "scores.0", "orders.0.price"],
    "text": [
        "email", "plan", "country", "name", "user.id", "user.team.name", "groups.0", "targetingKey", "$flagd.flagKey",
    ],
    "version": ["version", "device.os.version"],
    "texts": ["groups", "user.roles"],
    "numbers": ["scores", "user.limits"],
    "objects": ["orders", "user.devices"],
    "anything": [
        "nothing", "absent", "user.absent.deeper", "mixed", "mixed.1", "user", "device", "groups.9", "groups.length",
        "email.0", "name.length",
    ],
}  # fmt: skip
ITEMS = {
    "texts": {"text": [""]},
    "numbers": {"number": [""]},
    "objects": {"number": ["price", "count"], "text": ["sku", "tags.0"], "boolean": ["paid"], "texts": ["tags"]},
}
LITERAL = {
    "boolean": lambda rng: rng.random() < 0.5,
    "number": lambda rng: rng.choice(ODD_NUMBERS if rng.random() < 0.1 else NUMBERS),
    "text": lambda rng: rng.choice(ODD_TEXTS if rng.random() < 0.1 else TEXTS),
    "version": lambda rng: rng.choice(ODD_VERSIONS if rng.random() < 0.1 else VERSIONS),
    "texts": lambda rng: [literal(rng, "text") for _ in range(rng.choice([0, 1, 2, 3, 3, 12]))],
    "numbers": lambda rng: [literal(rng, "number") for _ in range(rng.randrange(5))],
    "objects": lambda rng: [],
    "anything": lambda rng: rng.choice([None, [], [None], [True], [[1]], ["a", 1, None], 0, "", False]),
}
SIMPLE = ["boolean", "number", "text"]
LISTS = ["texts", "numbers", "objects"]


def cases(count, seed):
    """The first `count` cases of a seed: `{id, document, flag, context}`."""
    for i in range(count):
        rng = Random(f"{seed}/{i}")
        key = rng.choice(["new-checkout", "theme", "largeur-é", "a"])
        evaluators = {name: None for name in rng.sample(["internal", "grown-up", "x.y (z)"], rng.choice([0, 0, 1, 2]))}
        # Each may refer to those after it, which is both ways round as the document has them.
        known = list(evaluators)
        for n, name in enumerate(known):
            evaluators[name] = operation(rng, "boolean", 2, {**CONTEXT, "refs": known[n + 1 :]})
        document = {"flags": {key: flag(rng, {**CONTEXT, "refs": known})}}
        if evaluators:
            document["$evaluators"] = dict(rng.sample(list(evaluators.items()), len(evaluators)))
        yield {"id": i, "document": document, "flag": key, "context": context(rng)}


# Flags


def flag(rng, scope):
    """A definition whose targeting sees `scope`."""
    variants = rng.choice(
        [
            {"on": True, "off": False},
            {"true": True, "false": False},
            {"red": "#b91c1c", "green": "", "blue": "é"},
            {"free": "f", "pro": "p", "team": "t"},
            {"one": 1, "two": 2.5, "three": -3, "most": 2**53},
            {"1": 1.0, "2": 2, "0.5": 0.5},
            {"small": {"max": 1, "tags": []}, "large": {"max": 1e3, "more": {"a": [None, True]}}},
        ]
    )
    names = list(variants)
    definition = {"state": "ENABLED" if rng.random() < 0.97 else "DISABLED", "variants": variants}
    if rng.random() < 0.93:
        definition["defaultVariant"] = rng.choice([None, ""]) if rng.random() < 0.05 else rng.choice(names)
    if rng.random() < 0.97:
        definition["targeting"] = rng.choice([{}, {}, None]) if rng.random() < 0.03 else targeting(rng, names, scope)
    return definition


def targeting(rng, names, scope):
    """An operator, most often one that gives one of the variants `names`."""
    way = rng.random()
    if names[0] == "true" and way < 0.3:
        made = operation(rng, "boolean", 2, scope)
        return made if isinstance(made, dict) else {"!!": [made]}
    if way < 0.06:
        # Of these values, some are called as variants are.
        kind = {"free": "text", "1": "number"}.get(names[0]) or rng.choice([*SIMPLE, *LISTS, "anything"])
        made = operation(rng, kind, 2, scope)
        return made if isinstance(made, dict) else {"if": [made]}
    if way < 0.4:
        found = {"and": [expression(rng, "boolean", 2, scope), variant(rng, names, 1, scope)]}
        return {"or": [found, variant(rng, names, 1, scope)]}
    if way < 0.7:
        return branches(rng, lambda: variant(rng, names, 1, scope), 2, scope, unknown=True)
    return fractional(rng, names, 2, scope)


def branches(rng, value, depth, scope, unknown=False):
    """`if` with one to three conditions, most often with an else; `value()` makes what it chooses from."""
    operands = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        operands += [expression(rng, "boolean", depth, scope), value()]
    if rng.random() < 0.85:
        operands.append(value())
    if unknown and rng.random() < 0.02:
        operands[rng.randrange(1, len(operands))] = {"$ref": "unknown"}
    return {rng.choice(["if", "if", "?:"]): operands}


def variant(rng, names, depth, scope):
    """The name of a variant, or an expression that gives one, or sometimes something else."""
    way = rng.random()
    if way < 0.75 or depth == 0:
        return rng.choice(names)
    if way < 0.83:
        return fractional(rng, names, depth - 1, scope)
    if way < 0.87:
        return branches(rng, lambda: variant(rng, names, depth - 1, scope), 1, scope)
    if way < 0.91:
        name = rng.choice(names)
        cut = rng.randrange(len(name) + 1)
        return rng.choice([{"cat": [name[:cut], name[cut:]]}, {"substr": [f"x{name}", 1]}, {"var": ["absent", name]}])
    if way < 0.96:
        return None
    return expression(rng, rng.choice([*SIMPLE, "anything"]), depth, scope)


def fractional(rng, names, depth, scope):
    """`fractional` over variants, by the implicit key or by something else."""
    operands = []
    if rng.random() < 0.5:
        way = rng.random()
        if way < 0.4:
            by = {"cat": [{"var": "$flagd.flagKey"}, expression(rng, "text", 0, scope)]}
        elif way < 0.7:
            by = variable(rng, "text", scope)
        else:
            kind = rng.choice([*SIMPLE, *LISTS, "anything", "anything"])
            by = variable(rng, kind, scope) if rng.random() < 0.7 else operation(rng, kind, 1, scope)
        operands.append(by if isinstance(by, dict) else {"var": "targetingKey"})
    for _ in range(rng.choice([1, 2, 2, 3, 4])):
        entry = [variant(rng, names, depth, scope)]
        if rng.random() < 0.8:
            entry.append(weight(rng, scope))
        operands.append(entry)
    return {"fractional": operands}


def weight(rng, scope):
    """A weight: most often a small whole number."""
    way = rng.random()
    if way < 0.8:
        return rng.choice([0, 1, 10, 25, 50, 90, 100])
    if way < 0.84:
        return rng.choice([-1, -50, 50.0, 2**31 - 1, 2**31, 1e12])
    if way < 0.86:
        return rng.choice([0.5, "50", None, True, [], 1e-3])
    score = {"var": ["score", 10]}
    return rng.choice(
        [{"-": [100, score]}, score, {"*": [score, 2]}, {"/": [{"var": "age"}, 2]}, {"max": [score, 1]},
         {"if": [expression(rng, "boolean", 0, scope), 10, 90]}, {"+": [{"var": "user.level"}, 1]}]
    )  # fmt: skip


# Expressions


def expression(rng, kind, depth, scope):
    """An expression of that type, operators at most `depth` deep in it; or, at times, of another type."""
    if rng.random() < ODD:
        kind = rng.choice([*LITERAL])
    if depth > 0 and rng.random() < 0.75:
        return operation(rng, kind, depth, scope)
    return variable(rng, kind, scope) if rng.random() < 0.7 else literal(rng, kind)


def literal(rng, kind):
    """A value of that type with no operator in it."""
    return LITERAL[kind](rng)


def variable(rng, kind, scope):
    """`var` of something of that type, in all ways of writing it; a literal where there is nothing."""
    if kind not in scope:
        return literal(rng, kind)
    name = rng.choice(scope[kind])
    way = rng.random()
    if way < 0.6:
        return {"var": name}
    if way < 0.7:
        return {"var": [name]}
    if way < 0.75 and name:
        return {"var": [{"cat": [name[:2], name[2:]]}, *([] if rng.random() < 0.5 else [literal(rng, kind)])]}
    return {"var": [name, literal(rng, kind)]}


def operation(rng, kind, depth, scope):
    """An operator that gives that type; a literal where none does."""
    return OPERATIONS[kind](rng, lambda kind: expression(rng, kind, depth - 1, scope), depth, scope)


def boolean(rng, operand, depth, scope):
    """An operator that gives true or false, or null."""
    way = rng.choice(
        ["equal", "equal", "order", "order", "between", "and", "or", "not", "in text", "in list", "affix", "sem_ver",
         "some", "ref"]
    )  # fmt: skip
    if way == "ref" and scope.get("refs"):
        return {"$ref": rng.choice(scope["refs"])}
    if way == "equal":
        kind = rng.choice(SIMPLE)
        other = kind if rng.random() < 0.9 else rng.choice([*LITERAL])
        return {rng.choice(["==", "===", "!=", "!=="]): [operand(kind), operand(other)]}
    if way == "order":
        kind = rng.choice(["number", "number", "number", "text"])
        return {rng.choice(["<", "<=", ">", ">="]): [operand(kind), operand(kind)]}
    if way == "between":
        return {rng.choice(["<", "<="]): [literal(rng, "number"), operand("number"), operand("number")]}
    if way in ("and", "or"):
        return {way: [operand("boolean") for _ in range(rng.choice([1, 2, 2, 3]))]}
    if way == "not":
        of = operand(rng.choice(["boolean", "boolean", *LITERAL])) if rng.random() < 0.95 else {"var": ""}
        return unary(rng, rng.choice(["!", "!!"]), of)
    if way == "in text":
        return {"in": [operand("text"), operand("text")]}
    if way == "in list":
        kind = rng.choice(["text", "text", "number"])
        return {"in": [operand(kind if rng.random() < 0.9 else "anything"), operand(f"{kind}s")]}
    if way == "affix":
        affix = operand("text") if rng.random() < 0.3 else rng.choice(["a", "@example.com", "é", "", "A"])
        operands = [operand("text"), affix]
        return {rng.choice(["starts_with", "ends_with"]): miscounted(rng, operands)}
    if way == "sem_ver":
        comparison = rng.choice(COMPARISONS) if rng.random() < 0.95 else rng.choice(["==", "", None, {"var": "plan"}])
        return {"sem_ver": miscounted(rng, [operand("version"), comparison, operand("version")])}
    return each(rng, rng.choice(["some", "all", "none"]), "boolean", depth, scope)


def number(rng, operand, depth, scope):
    """An operator that gives a number."""
    operator = rng.choice(["+", "-", "*", "/", "%", "min", "max", "unary", "reduce", "if"])
    if operator == "unary":
        return unary(rng, rng.choice(["+", "-"]), operand(rng.choice(["number", "number", "text"])))
    if operator in ("+", "*", "min", "max"):
        return {operator: [operand("number") for _ in range(rng.choice([1, 2, 2, 3]))]}
    if operator == "reduce":
        kind = rng.choice(["numbers", "numbers", "objects"])
        current = "current" if kind == "numbers" else f"current.{rng.choice(ITEMS[kind]['number'])}"
        step = {"number": [current, "accumulator"], "anything": ["", "accumulator.x"]}
        return {"reduce": [operand(kind), operation(rng, "number", 1, step), operand("number")]}
    if operator == "if":
        return branches(rng, lambda: operand("number"), 0, scope)
    return {operator: [operand("number"), operand("number")]}


def text(rng, operand, depth, scope):
    """An operator that gives a text."""
    operator = rng.choice(["cat", "cat", "substr", "substr", "if", "reduce", "fractional"])
    if operator == "fractional":
        return fractional(rng, rng.sample(TEXTS, 3), 0, scope)
    if operator == "cat":
        if rng.random() < 0.1:
            return unary(rng, "cat", operand("text"))
        return {"cat": [operand(rng.choice(["text", "text", "text", *LITERAL])) for _ in range(rng.randrange(1, 4))]}
    if operator == "substr":
        start = rng.choice([0, 1, 2, -1, -3, -20, 20, 1.5, {"var": "score"}])
        length = rng.choice([[], [], [0], [1], [3], [-1], [-2], [-9], [1.5], [None], [{"var": "age"}]])
        return {"substr": [operand("text"), start, *length]}
    if operator == "reduce":
        step = {"text": ["current", "accumulator"]}
        return {"reduce": [operand("texts"), operation(rng, "text", 1, step), operand("text")]}
    return branches(rng, lambda: operand("text"), 0, scope)


def texts(rng, operand, depth, scope):
    """An operator that gives a list of texts."""
    way = rng.choice(["merge", "list", "filter", "map", "missing", "missing_some"])
    if way == "merge":
        return {"merge": [operand(rng.choice(["text", "texts"])) for _ in range(rng.randrange(4))]}
    if way == "list":
        return [operand("text") for _ in range(rng.randrange(4))]
    if way in ("filter", "map"):
        return each(rng, way, "texts", depth, scope)
    some = [scope[kind] for kind in scope if kind != "refs"]
    names = [rng.choice(rng.choice(some)) for _ in range(rng.randrange(1, 4))]
    if way == "missing_some":
        return {"missing_some": [rng.choice([0, 1, 2]), names if rng.random() < 0.9 else operand("texts")]}
    return {"missing": rng.choice([names, [names], names[0], {"merge": names}])}


def numbers(rng, operand, depth, scope):
    """An operator that gives a list of numbers."""
    way = rng.choice(["merge", "list", "filter", "map"])
    if way == "merge":
        return {"merge": [operand(rng.choice(["number", "numbers"])) for _ in range(rng.randrange(4))]}
    if way == "list":
        return [operand("number") for _ in range(rng.randrange(4))]
    return each(rng, way, "numbers", depth, scope)


def objects(rng, operand, depth, scope):
    """An operator that gives a list of objects."""
    return {"merge": [operand("objects")]} if rng.random() < 0.3 else each(rng, "filter", "objects", depth, scope)


def anything(rng, operand, depth, scope):
    """An operator of any type."""
    return operation(rng, rng.choice([*SIMPLE, *LISTS]), depth, scope)


def version(rng, operand, depth, scope):
    """Versions come from the context or are literals, more often than not."""
    return {"cat": ["v", operand("version")]} if rng.random() < 0.1 else variable(rng, "version", scope)


OPERATIONS = {
    "boolean": boolean, "number": number, "text": text, "version": version, "texts": texts, "numbers": numbers,
    "objects": objects, "anything": anything,
}  # fmt: skip


def each(rng, operator, kind, depth, scope):
    """`map` and its like: `map` to items of `kind`, `filter` of a list of `kind`, the others over any list."""
    of = kind if operator == "filter" else rng.choice(LISTS)
    gives = kind.removesuffix("s") if operator == "map" else "boolean"
    inside = {**ITEMS[of], "anything": ["", "absent"], "refs": scope.get("refs", [])}
    body = operation(rng, gives, 1, inside) if rng.random() < 0.9 else expression(rng, gives, 0, inside)
    return {operator: [expression(rng, of, depth - 1, scope), body]}


def unary(rng, operator, operand):
    """One operand, in a list or not. A literal list must be in one, else its items would be the operands."""
    return {operator: operand if rng.random() < 0.5 and not isinstance(operand, list) else [operand]}


def miscounted(rng, operands):
    """The operands of one of flagd's operators, at times one too few or too many."""
    if rng.random() < 0.98:
        return operands
    return rng.choice([operands[:-1], [*operands, "1"]])


# Contexts


def context(rng):
    """What is known of a user: most of it of the type that expressions expect, some of it not there."""
    said = {
        "beta": literal(rng, "boolean"),
        "age": literal(rng, "number"),
        "score": rng.randrange(-10, 101),
        "amount": round(rng.uniform(-100, 1000), rng.randrange(4)),
        "email": literal(rng, "text"),
        "plan": rng.choice(["free", "pro", "team"]),
        "country": literal(rng, "text"),
        "name": literal(rng, "text"),
        "version": literal(rng, "version"),
        "groups": literal(rng, "texts"),
        "scores": literal(rng, "numbers"),
        "orders": [order(rng) for _ in range(rng.randrange(4))],
        "nothing": None,
        "mixed": [literal(rng, kind) for kind in rng.choices([*LITERAL], k=rng.randrange(4))],
        "user": {
            "id": f"user-{rng.randrange(1000)}",
            "admin": literal(rng, "boolean"),
            "level": rng.randrange(10),
            "team": {"name": literal(rng, "text")},
            "roles": literal(rng, "texts"),
            "limits": literal(rng, "numbers"),
            "devices": [order(rng) for _ in range(rng.randrange(3))],
        },
        "device": {"touch": literal(rng, "boolean"), "os": {"version": literal(rng, "version")}},
        "targetingKey": rng.choice(["é물😀", "x" * 70]) if rng.random() < 0.1 else f"user-{rng.randrange(10**6)}",
    }
    for name in list(said):
        way = rng.random()
        if way < 0.06:
            del said[name]
        elif way < 0.06 + ODD:
            said[name] = rng.choice([literal(rng, rng.choice([*LITERAL])), {}, {"a": 1}, None, "", -0.0])
    return said


def order(rng):
    """An object that stands in a list."""
    members = {
        "price": literal(rng, "number"),
        "count": rng.randrange(5),
        "sku": literal(rng, "text"),
        "tags": literal(rng, "texts"),
        "paid": literal(rng, "boolean"),
    }
    if rng.random() < 0.1:
        del members[rng.choice([*members])]
    return members


def main():
    """Prints cases, one a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for case in cases(arguments.count, arguments.seed):
        print(json.dumps(case))


if __name__ == "__main__":
    main()
