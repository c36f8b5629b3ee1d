// OpenFeature's client for browsers, which asks for all flags at once and keeps them: `node web.mjs`. It reads commands
// from stdin, one on a line, and writes an answer to each:
//
//   {"command": "open", "url": URL, "context": {}, "pollInterval": MILLISECONDS or 0}
//   {"command": "setContext", "context": {}}    done when the flags of that context are there
//   {"command": "resolve", "cases": [...]}      the details of each case
//   {"command": "requests"}                     the requests since this was last asked, with their responses
//   {"command": "changes"}                      the keys that the client said have changed, a list for each time

import { createInterface } from "node:readline";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { details, typeName } from "./details.mjs";

const SILENT = { error() {}, warn() {}, info() {}, debug() {} };

const requests = [];
const changes = [];

async function recordingFetch(request, options) {
  const response = await fetch(request, options);
  const body = await response.clone().text();
  requests.push({
    method: request.method,
    path: new URL(request.url).pathname,
    headers: Object.fromEntries(request.headers),
    response: { status: response.status, headers: Object.fromEntries(response.headers), body },
  });
  return response;
}

const commands = {
  async open({ url, context, pollInterval }) {
    OpenFeature.setLogger(SILENT);
    OpenFeature.addHandler(ProviderEvents.ConfigurationChanged, ({ flagsChanged }) => changes.push(flagsChanged));
    await OpenFeature.setContext(context);
    // What a browser would keep in its local storage is not what the tests are about.
    const options = { baseUrl: url, pollInterval, cacheMode: "disabled", fetchImplementation: recordingFetch };
    await OpenFeature.setProviderAndWait(new OFREPWebProvider(options));
  },

  async setContext({ context }) {
    await OpenFeature.setContext(context);
  },

  resolve({ cases }) {
    const client = OpenFeature.getClient();
    return cases.map((item) => details(client[`get${typeName(item)}Details`](item.key, item.default)));
  },

  requests: () => requests.splice(0),

  changes: () => changes,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...members } = JSON.parse(line);
  const answer = await commands[command](members);
  process.stdout.write(`${JSON.stringify(answer ?? null)}\n`);
}
// Polling would go on.
process.exit();
