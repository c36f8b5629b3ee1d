//! `mulkko istio`: what it prints for the example policies is what `envoy/istio` holds, and what it refuses.

use std::fs;
use std::process::Command;

use serde_json::Value;

const SERVICE: &str = "checkout.shop.svc.cluster.local:8080";
const IMAGE: &str = "oci://registry.example/mulkko:0.1.0";
const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const SOURCE: &str = "http://config.mulkko.svc.cluster.local:8080/policies/shop.json";
const GATEWAY: &[&str] = &[
    "--host=shop.example.com",
    "--gateway=istio-ingress/shop",
    "--namespace=istio-ingress",
    "--workload=istio=ingress",
    "--pass-key=MULKKO_PASS_KEY",
];

/// What `mulkko istio` says for a policy, and whether it could.
fn istio(policy: &str, options: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mulkko"));
    command.args(["istio", "--policy", policy]);
    let given = |name: &str| options.iter().any(|option| option.starts_with(&format!("--{name}=")));
    for (name, value) in [("service", SERVICE), ("image", IMAGE), ("digest", DIGEST), ("source", SOURCE)] {
        if !given(name) {
            command.arg(format!("--{name}={value}"));
        }
    }
    let output = command.args(options).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (String::from_utf8(said).unwrap(), output.status.success())
}

#[test]
fn the_manifests_are_what_the_command_prints() {
    for (proxy, policy, more) in [
        ("sidecar", "policies/mesh.json", &["--workload=app=frontend"][..]),
        ("gateway", "policies/mesh.json", GATEWAY),
        ("waypoint", "policies/waypoint.json", &[]),
    ] {
        for (kind, file) in [
            ("envoy-filter", format!("base/{proxy}/mulkko.yaml")),
            ("traffic-extension", format!("traffic-extension/{proxy}.yaml")),
            ("wasm-plugin", format!("wasm-plugin/{proxy}.yaml")),
        ] {
            let asked = [format!("--proxy={proxy}"), format!("--as={kind}")];
            let options: Vec<&str> = asked.iter().map(String::as_str).chain(more.iter().copied()).collect();
            let (printed, good) = istio(policy, &options);
            assert!(good, "{printed}");
            let file = format!("envoy/istio/{file}");
            if std::env::var("TRYCMD").as_deref() == Ok("overwrite") {
                fs::write(&file, &printed).unwrap();
            }
            assert_eq!(fs::read_to_string(&file).unwrap_or_default(), printed, "{file}");
        }
    }
}

#[test]
fn json_is_a_list_of_the_same() {
    let (printed, _) = istio("policies/mesh.json", &["--format=json"]);
    let list: Value = serde_json::from_str(&printed).unwrap();
    let kinds: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["EnvoyFilter", "DestinationRule", "VirtualService"]);
    // A name that YAML would take for a truth is a text.
    let (printed, _) = istio("policies/mesh.json", &["--format=json", "--rollout=express"]);
    let list: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(list["items"][1]["spec"]["subsets"][0]["name"], "off");
    assert_eq!(list["items"][2]["spec"]["http"][0]["route"][0]["destination"]["subset"], "off");
}

#[test]
fn only_what_is_asked_for_is_printed() {
    let (printed, _) = istio("policies/mesh.json", &["--rollout=checkout-v2", "--as=traffic-extension"]);
    assert!(!printed.contains("EnvoyFilter\n") && !printed.contains("express"), "{printed}");
    let (printed, _) = istio("policies/mesh.json", &["--source=https://config.example.com/shop.json?v=2"]);
    for part in
        ["name: \"mulkko-config\"", "sni: \"config.example.com\"", "port_value: 443", "/shop.json?v=2"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn keys_and_waits_are_in_the_plugin_configuration() {
    let key = r#"{"kid":"2026-11","ed25519":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let next = key.replace("2026-11", "2026-12");
    let verify = [format!("--verify={key}"), format!("--verify={next}")];
    let options = ["--format=json", "--as=wasm-plugin", "--wait=30s", &verify[0], &verify[1]];
    let (printed, good) = istio("policies/mesh.json", &options);
    assert!(good, "{printed}");
    let list: Value = serde_json::from_str(&printed).unwrap();
    let plugin = &list["items"][0]["spec"]["pluginConfig"];
    assert_eq!(plugin["source"]["wait"], "30s");
    let given: Vec<Value> = [key, &next].iter().map(|key| serde_json::from_str(key).unwrap()).collect();
    assert_eq!(plugin["verify"], Value::from(given));
}

#[test]
fn what_only_the_environment_says_is_read_from_the_proxies() {
    let names = ["MULKKO_PASS_KEY", "MULKKO_MESH_KEY", "MULKKO_SOURCE_TOKEN"];
    let options = names.iter().zip(["pass-key", "mesh-key", "source-token"]);
    let options: Vec<String> = options.map(|(name, option)| format!("--{option}={name}")).collect();
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend(["--format=json", "--as=wasm-plugin"]);
    let (printed, good) = istio("policies/mesh.json", &options);
    assert!(good, "{printed}");
    let list: Value = serde_json::from_str(&printed).unwrap();
    let spec = &list["items"][0]["spec"];
    let found: Vec<_> = spec["vmConfig"]["env"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(found, names);
    let plugin = &spec["pluginConfig"];
    for (place, name) in ["/passKeys/0/env", "/meshKeys/0/env", "/source/token/env"].iter().zip(names) {
        assert_eq!(plugin.pointer(place).and_then(Value::as_str), Some(name));
    }
    let filter: Vec<_> =
        options.iter().map(|it| if *it == "--as=wasm-plugin" { "--as=envoy-filter" } else { it }).collect();
    let (printed, good) = istio("policies/mesh.json", &filter);
    assert!(good && printed.contains("MULKKO_MESH_KEY"), "{printed}");
}

#[test]
fn what_would_not_work_is_refused() {
    let zeros = &DIGEST[1..];
    for (policy, options, expected) in [
        ("mesh", &["--service=checkout:8080"][..], "expected `checkout.shop.svc.cluster.local:8080`, found"),
        (
            "mesh",
            &["--service=checkout.shop.svc.cluster.local"],
            "expected `checkout.shop.svc.cluster.local:8080`",
        ),
        (
            "mesh",
            &["--service=checkout.shop.svc.cluster.local:0"],
            "expected `checkout.shop.svc.cluster.local:8080`",
        ),
        ("mesh", &["--image=registry.example/mulkko"], "expected `oci://registry.example/mulkko:0.1.0`"),
        (
            "mesh",
            &["--image=oci://registry.example/\"mulkko"],
            "expected `oci://registry.example/mulkko:0.1.0`",
        ),
        ("mesh", &[&*format!("--digest={zeros}")], "expected 64 hexadecimal digits"),
        ("mesh", &["--source=ftp://config.example.com/shop.json"], "expected a URL as"),
        ("mesh", &["--source=http://config.example.com/"], "expected a URL as"),
        ("mesh", &["--source=http://user:word@config.example.com/shop.json"], "expected a URL as"),
        ("mesh", &["--name=Mulkko"], "expected lower-case letters"),
        ("mesh", &["--workload=app"], "expected a label as `app=frontend`"),
        ("mesh", &["--pass-key=A=B"], "expected a name as `MULKKO_PASS_KEY`"),
        ("mesh", &["--wait=1500ms"], "source.wait: expected whole seconds"),
        ("mesh", &["--verify=2026-11"], "as `mulkko keygen --public` prints it"),
        (
            "mesh",
            &[r#"--verify={"kid":"2026-11","ed25519":"AAAA"}"#],
            "the plugin configuration would be refused: verify[0].ed25519: expected",
        ),
        ("mesh", &["--rollout=search"], "--rollout search: the policy has none of this name"),
        ("mesh", &["--proxy=gateway"], "required arguments were not provided"),
        // Its clusters are those of another kind of proxy, of another service, or none of Istio's.
        ("mesh", &["--proxy=waypoint"], "rollouts[1].variants.next.cluster: expected a cluster"),
        (
            "mesh",
            &["--service=search.shop.svc.cluster.local:8080"],
            "rollouts[1].variants.next.cluster: expected",
        ),
        ("canary", &[], "rollouts[0].variants.canary.cluster: expected a cluster"),
        ("flags", &[], "the policy has no rollout"),
    ] {
        let (said, good) = istio(&format!("policies/{policy}.json"), options);
        assert!(!good && said.contains(expected), "{options:?}: {said}");
    }
}
