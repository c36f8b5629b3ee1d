// OpenFeature's client for servers, which asks for one flag at a time: `node server.mjs`, with
// `{url, contexts, cases}` on stdin. It writes, for each context, a list with the details of each case.

import { readFileSync } from "node:fs";
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";
import { details, typeName } from "./details.mjs";

const SILENT = { error() {}, warn() {}, info() {}, debug() {} };

const { url, contexts, cases } = JSON.parse(readFileSync(0, "utf8"));
OpenFeature.setLogger(SILENT);
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url }));
const client = OpenFeature.getClient();

const answers = [];
for (const context of contexts) {
  const answer = [];
  for (const item of cases) {
    answer.push(details(await client[`get${typeName(item)}Details`](item.key, item.default, context)));
  }
  answers.push(answer);
}
process.stdout.write(JSON.stringify(answers));
