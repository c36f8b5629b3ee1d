// flagd's evaluator for JavaScript: reads cases, one a line, and prints what it answers.
//
// A case may name `rules`: known differences, each of which makes the evaluator do as mulkko does. `--rules` lists them
// with their reasons.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const clients = createRequire(new URL("../envoy/clients/package.json", import.meta.url));
const { FlagdCore } = clients("@openfeature/flagd-core");
// What the evaluator itself uses, so that rules can get at it.
const inside = createRequire(clients.resolve("@openfeature/flagd-core"));
const { LogicEngine } = inside("json-logic-engine");
const MurmurHash3 = inside("imurmurhash");

const SILENT = { error() {}, warn() {}, info() {}, debug() {} };
const METHODS = { boolean: "Boolean", string: "String", number: "Number", object: "Object" };

// What the evaluator says: by its public methods, of which the one for the variants' type is called.
function answer({ document, flag, context }) {
  const core = new FlagdCore(undefined, SILENT);
  const [value] = Object.values(document.flags[flag].variants);
  try {
    core.setConfigurations(JSON.stringify(document));
    const details = core[`resolve${METHODS[typeof value]}Evaluation`](flag, undefined, context);
    return { value: details.value, variant: details.variant, reason: details.reason, errorCode: details.errorCode };
  } catch (error) {
    return { reason: "ERROR", errorCode: error.code ?? "GENERAL" };
  }
}

// Rules: a reason, and one or more of
//   methods   operators that take the place of the engine's: called with operands, context, above and engine
//   around    the same, made from the engine's own
//   rewrite   changes the operands of an operator before the document is read
//   targeting, document   change these
//   engine    changes the engine
// Methods are called with a list of operands, so where the engine takes single operands out of their lists, `rewrite`
// puts them back, or hides them in an operator of its own.

const isNull = (value) => value === null || value === undefined;
const isComposed = (value) => typeof value === "object" && value !== null;
const isText = (value) => typeof value === "string";
const isOperator = (json) => isComposed(json) && !Array.isArray(json) && Object.keys(json).length === 1;
const text = (value) => (isNull(value) ? "" : String(value));
const same = (a, b) => !isComposed(a) && a === b;
const truthy = (value) => (Array.isArray(value) ? value.length > 0 : Boolean(value));
const asList = (operands) => (Array.isArray(operands) ? operands : [operands]);
const inLists = (...names) => (name, operands) => (names.includes(name) ? asList(operands) : operands);
const neighbours = (holds) => (values) => values.slice(1).every((b, i) => holds(values[i], b));

// What `path` leads to, members and items only.
function at(value, path) {
  for (const step of path === "" ? [] : path.split(".")) {
    const isItem = Array.isArray(value) && /^[0-9]+$/.test(step);
    if (!isComposed(value) || !(isItem || !Array.isArray(value)) || !Object.hasOwn(value, step)) return null;
    value = value[step];
  }
  return value ?? null;
}

function missing(names, context) {
  return names.filter((name) => ["", null].includes(at(context, text(name))));
}

// Part of a text, counted in code points.
function substr(string, start, length) {
  const count = (value, rounded) => rounded(Number(value)) || 0;
  const characters = [...text(string)];
  const tail = characters.slice(count(start, Math.trunc));
  if (length === undefined) return tail.join("");
  const end = count(length, Math.floor);
  return tail.slice(0, end < 0 ? Math.max(0, tail.length + end) : end).join("");
}

// A text that stands to others by its code points.
const byCodePoints = (value) => Array.from(value, (c) => c.codePointAt(0).toString().padStart(7, "0")).join("");

const NUMERIC = "(0|[1-9][0-9]*)";
const SUFFIX = "[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*";
const VERSION = new RegExp(`^[vV]?${NUMERIC}(\\.${NUMERIC}(\\.${NUMERIC}(-${SUFFIX})?(\\+${SUFFIX})?)?)?$`);
const isVersion = (value) => ["string", "number"].includes(typeof value) && VERSION.test(value);

// JSON with the evaluators in place of the references to them.
function inlined(json, evaluators) {
  if (!isComposed(json)) return json;
  if (Array.isArray(json)) return json.map((item) => inlined(item, evaluators));
  if (isOperator(json) && Object.hasOwn(evaluators, json.$ref)) return inlined(evaluators[json.$ref], evaluators);
  return Object.fromEntries(Object.entries(json).map(([name, member]) => [name, inlined(member, evaluators)]));
}

// What flagd's operators look at besides their operands.
let root;
const LOGGER = Symbol.for("flagd.logger");
const ITERATORS = ["map", "filter", "all", "some", "none", "reduce"];
let reachedUnknown = false;

const RULES = {
  "single operands": {
    reason: "the engine takes a list that is computed for the operands, where what computes it is not in a list",
    rewrite: inLists("+", "-", "*", "/", "%", "min", "max", "cat", "!", "!!"),
    methods: { "!": ([a], _, __, engine) => !engine.truthy(a), "!!": ([a], _, __, engine) => !!engine.truthy(a) },
  },
  arithmetic: {
    reason: "the engine fails where a number is none or division is by zero, where JavaScript has NaN and infinity",
    methods: {
      "+": (values) => values.reduce((sum, value) => sum + Number(value), 0),
      "*": (values) => values.reduce((product, value) => product * Number(value), 1),
      "-": (values) => (values.length === 1 ? -Number(values[0]) : Number(values[0]) - Number(values[1])),
      "/": ([a, b]) => Number(a) / Number(b),
      "%": ([a, b]) => Number(a) % Number(b),
    },
  },
  "min and max": {
    reason: "the engine fails for what is no number, where JavaScript reads it as one",
    methods: { min: (values) => Math.min(...values.map(Number)), max: (values) => Math.max(...values.map(Number)) },
  },
  equality: {
    reason: "the engine fails beside a number for what is none, where JavaScript has false; to the engine null is 0",
    methods: {
      "==": ([a, b]) => !(isComposed(a) && isComposed(b)) && a == b,
      "!=": ([a, b]) => (isComposed(a) && isComposed(b)) || a != b,
    },
  },
  "=== of lists": {
    reason: "in JavaScript a list is the same as itself",
    methods: { "===": ([a, b]) => same(a, b), "!==": ([a, b]) => !same(a, b) },
  },
  order: {
    reason: "the engine fails where one of two is no number, where JavaScript has false",
    methods: {
      "<": neighbours((a, b) => a < b),
      "<=": neighbours((a, b) => a <= b),
      ">": neighbours((a, b) => a > b),
      ">=": neighbours((a, b) => a >= b),
    },
  },
  "order of texts": {
    reason: "JavaScript compares UTF-16, in which U+10000 comes before U+E000",
    around: Object.fromEntries(
      ["<", "<=", ">", ">="].map((name) => [
        name,
        (own) => (values, ...rest) => own(values.every(isText) ? values.map(byCodePoints) : values, ...rest),
      ]),
    ),
  },
  "null in cat": {
    reason: "the engine writes `null`, but not where it has computed ahead",
    methods: { cat: (values) => values.map(text).join("") },
  },
  in: {
    reason: "the engine finds null as `null`, and fails in what is neither a list nor a text",
    methods: {
      in: ([item, all]) =>
        Array.isArray(all)
          ? all.some((other) => same(item, other))
          : isText(all) && all !== "" && !isNull(item) && all.includes(text(item)),
    },
  },
  substr: {
    reason: "the engine counts UTF-16 units, and fails for what is no text",
    methods: { substr: ([string, start, length]) => substr(string, start, length) },
  },
  var: {
    reason: "the engine finds characters, and `length`, and null instead of a default where the name is computed",
    rewrite: inLists("var"),
    methods: { var: ([name, other], context) => at(context, text(name)) ?? other ?? null },
  },
  missing: {
    reason: "to the engine null and the empty text are there, and a list of names is one name",
    methods: {
      missing: (names, context) => missing(Array.isArray(names[0]) ? names[0] : names, context),
      missing_some([needed, names], context) {
        const found = missing(asList(names), context);
        return asList(names).length - found.length >= Number(needed) ? [] : found;
      },
    },
  },
  "no list": {
    reason: "the engine fails where `map` and its like are to go through something else",
    rewrite: (name, operands) =>
      ITERATORS.includes(name) ? [{ "items of": [operands[0]] }, ...operands.slice(1)] : operands,
    methods: { "items of": ([list]) => (Array.isArray(list) ? list : []) },
  },
  "lists in reduce": {
    reason: "the engine fails where what is accumulated nests",
    engine: (engine) => (engine.options.maxDepth = Infinity),
  },
  "{}": {
    reason: "to the engine an empty object is false",
    engine: (engine) => (engine.truthy = truthy),
  },
  "lists as names": {
    reason: "to the engine the text of a list or an object can name a variant",
    targeting: (targeting) => ({ named: [targeting] }),
    methods: {
      named([value]) {
        if (isComposed(value)) throw new Error("no name");
        return value;
      },
    },
  },
  "$ref in $evaluators": {
    reason: "flagd follows it to later ones only, and takes `$$` in them for `$`",
    document: (document) => ({ ...inlined(document, document.$evaluators ?? {}), $evaluators: {} }),
  },
  "unknown $ref": {
    reason: "to the engine it is an error even where it is not reached",
    rewrite: (name, operands) => (name === "$ref" ? [operands] : operands),
    methods: {
      $ref() {
        reachedUnknown = true;
        return null;
      },
    },
  },
  "targetingKey []": {
    reason: "the engine hashes it as the empty text; to mulkko it is false, as the empty text is",
    around: {
      fractional: (own) => (of, context) =>
        own(of, truthy(context.targetingKey) ? context : { ...context, targetingKey: "" }),
    },
  },
  "flagd's operators over lists": {
    reason: "in the body of `map` and its like flagd misses its own part of the context, and fails",
    around: Object.fromEntries(
      ["starts_with", "ends_with", "sem_ver", "fractional"].map((name) => [name, (own) => (of) => own(of, root)]),
    ),
  },
  versions: {
    reason: "the engine trims them, reads leading zeros, `vv1.0.0`, and lists of one",
    around: { sem_ver: (own) => (of, context) => (isVersion(of[0]) && isVersion(of[2]) ? own(of, context) : null) },
  },
  "fractional by a list": {
    reason: "flagd takes a list that was computed for the first value and its weight",
    rewrite: (name, operands) =>
      name === "fractional" && isOperator(operands[0]) ? [{ by: [operands[0]] }, ...operands.slice(1)] : operands,
    methods: { by: ([value]) => (Array.isArray(value) ? {} : value) },
  },
  "fractional of lists and objects": {
    reason: "the engine has null for everybody, not just for those who are given one",
    rewrite: (name, operands) =>
      name === "fractional"
        ? operands.map((of) => (Array.isArray(of) ? [{ "name of": [of[0]] }, ...of.slice(1)] : of))
        : operands,
    methods: { "name of": ([value]) => (isComposed(value) ? null : value) },
  },
  "hash of UTF-8": {
    reason: "JavaScript's MurmurHash3 hashes UTF-16, most of it",
  },
};

let following = [];

// The methods are changed when flagd has added its last one.
const addMethod = LogicEngine.prototype.addMethod;
LogicEngine.prototype.addMethod = function (name, method) {
  addMethod.call(this, name, method);
  if (name !== "fractional") return;
  for (const { methods = {}, around = {}, engine } of following) {
    engine?.(this);
    for (const [name, method] of Object.entries(methods)) addMethod.call(this, name, method);
    for (const [name, make] of Object.entries(around)) addMethod.call(this, name, make(this.methods[name].method));
  }
};

const hash = MurmurHash3.prototype.hash;
MurmurHash3.prototype.hash = function (key) {
  const isUtf8 = following.includes(RULES["hash of UTF-8"]);
  return hash.call(this, isUtf8 ? Buffer.from(key).toString("latin1") : key);
};

function rewritten(json) {
  if (Array.isArray(json)) return json.map(rewritten);
  if (!isOperator(json)) return json;
  const [[name, operands]] = Object.entries(json);
  return { [name]: following.reduce((of, { rewrite }) => rewrite?.(name, of) ?? of, rewritten(operands)) };
}

// The document as the rules want it.
function prepared(document) {
  document = following.reduce((all, rule) => rule.document?.(all) ?? all, document);
  const members = (object, change) => Object.fromEntries(Object.entries(object).map(([k, v]) => [k, change(v)]));
  return {
    $evaluators: members(document.$evaluators ?? {}, rewritten),
    flags: members(document.flags, (flag) => {
      if (!isOperator(flag.targeting)) return flag;
      const targeting = rewritten(flag.targeting);
      return { ...flag, targeting: following.reduce((all, rule) => rule.targeting?.(all) ?? all, targeting) };
    }),
  };
}

if (process.argv[2] === "--rules") {
  console.log(JSON.stringify(Object.fromEntries(Object.entries(RULES).map(([name, { reason }]) => [name, reason]))));
} else {
  const answers = readFileSync(0, "utf8").trimEnd().split("\n").map((line) => {
    const { id, rules = [], ...asked } = JSON.parse(line);
    following = rules.map((name) => RULES[name]);
    reachedUnknown = false;
    root = { ...asked.context, $flagd: { flagKey: asked.flag }, [LOGGER]: SILENT };
    const document = rules.length > 0 ? prepared(asked.document) : asked.document;
    const found = answer({ ...asked, document });
    return JSON.stringify({ id, ...(reachedUnknown ? { reason: "ERROR", errorCode: "PARSE_ERROR" } : found) });
  });
  process.stdout.write(`${answers.join("\n")}\n`);
}
