//! Counts the wasm instructions of decisions: `make bench-instructions`.
//!
//! wasmtime burns one unit of fuel for each instruction (a few, as `nop` and `block`, cost none). What is counted is the second
//! run: the first is of a module that has never run.

use wasmtime::{Config, Engine, Error, Instance, Linker, Module, Store};

type Result<T> = std::result::Result<T, Error>;

fn main() -> Result<()> {
    let file = std::env::args().nth(1).unwrap_or_default();
    let mut config = Config::new();
    config.consume_fuel(true);
    let engine = Engine::new(&config)?;
    let module = Module::from_file(&engine, file)?;
    for (what, rollouts, flags) in [
        ("1 rollout", 1, 0),
        ("10 rollouts", 10, 0),
        ("10,000 rollouts", 10_000, 0),
        ("1 rollout, 1 flag exported", 1, 1),
        ("1 rollout, 20 flags exported", 1, 20),
    ] {
        println!("{what:>30}: {:>8} wasm instructions", counted(&engine, &module, rollouts, flags)?);
    }
    Ok(())
}

/// The instructions of a decision and its effects.
fn counted(engine: &Engine, module: &Module, rollouts: u32, flags: u32) -> Result<u64> {
    let mut store = Store::new(engine, ());
    store.set_fuel(u64::MAX)?;
    // Nothing is asked of the host but seeds of hash maps, which may be what they are.
    let mut linker = Linker::new(engine);
    linker.func_wrap("wasi_snapshot_preview1", "random_get", |_: u32, _: u32| 0_u32)?;
    linker.func_wrap("wasi_snapshot_preview1", "clock_time_get", |_: u32, _: u64, _: u32| 0_u32)?;
    linker.define_unknown_imports_as_traps(module)?;
    let instance: Instance = linker.instantiate(&mut store, module)?;
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
        initialize.call(&mut store, ())?;
    }
    instance.get_typed_func::<(u32, u32), ()>(&mut store, "prepare")?.call(&mut store, (rollouts, flags))?;
    let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
    run.call(&mut store, ())?;
    let before = store.get_fuel()?;
    run.call(&mut store, ())?;
    Ok(before - store.get_fuel()?)
}
