// flagd's own evaluator: `node flagd.mjs`, with `{document, contexts, cases}` on stdin. It writes, for each context, a
// list with the details of each case.

import { readFileSync } from "node:fs";
import { FlagdCore } from "@openfeature/flagd-core";
import { details, typeName } from "./details.mjs";

const SILENT = { error() {}, warn() {}, info() {}, debug() {} };

const { document, contexts, cases } = JSON.parse(readFileSync(0, "utf8"));
const core = new FlagdCore(undefined, SILENT);
core.setConfigurations(JSON.stringify(document));

const answers = contexts.map((context) =>
  cases.map((item) => details(core[`resolve${typeName(item)}Evaluation`](item.key, item.default, context))),
);
process.stdout.write(JSON.stringify(answers));
