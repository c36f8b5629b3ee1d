// Runs a test binary that was compiled to wasm32-wasip1: `node wasi.mjs FILE.wasm [ARGUMENT...]`.
//
// It sees the working folder as `.` (Cargo runs tests in the package's folder), and the folder that MULKKO_SUITES
// names, if it is there, as `/suites`. The exit code is the tests'.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
const suites = process.env.MULKKO_SUITES;
const preopens = { ".": process.cwd() };
const env = { RUST_BACKTRACE: "1" };
if (suites && existsSync(suites)) {
  preopens["/suites"] = suites;
  env.MULKKO_SUITES = "/suites";
}

const wasi = new WASI({ version: "preview1", args: [file, ...args], env, preopens });
const module = await WebAssembly.compile(await readFile(file));
const imports = wasi.getImportObject();
if (process.env.MULKKO_CPU_TIME) {
  // For benchmarks beside other programs: the monotonic clock (1) is the thread's CPU time (3).
  const { clock_time_get } = imports.wasi_snapshot_preview1;
  imports.wasi_snapshot_preview1.clock_time_get = (clock, ...rest) => clock_time_get(clock === 1 ? 3 : clock, ...rest);
}
const instance = await WebAssembly.instantiate(module, imports);
process.exitCode = wasi.start(instance);
