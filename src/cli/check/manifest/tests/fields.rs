//! Every field of the shipped manifest: of another type, out of range, or a secret.

use serde_json::json;

use super::*;

#[test]
fn what_the_kubelet_decodes_otherwise_is_refused_or_doubted() {
    let found = |change: &dyn Fn(&mut Value)| {
        let mut pod = crate::config::parse_yaml(GOOD).expect("YAML");
        change(&mut pod);
        findings_as(
            &pod,
            &[],
            Path::new("/etc/kubernetes/encryption/encryption-config.yaml"),
        )
    };
    let key = "-----BEGIN PRIVATE KEY-----";
    for (place, value, what) in [
        (
            "/spec/hostNetwork",
            json!("true"),
            "spec.hostNetwork is not true or false",
        ),
        (
            "/spec/priority",
            json!(1.5),
            "spec.priority is not a whole number",
        ),
        (
            "/spec/containers",
            json!({}),
            "spec.containers is not a list",
        ),
        (
            "/spec/volumes/0",
            json!([]),
            "spec.volumes[0] is not a mapping",
        ),
        (
            "/metadata/labels/tier",
            json!(1),
            "metadata.labels.tier is not a text",
        ),
        (
            "/spec/restartPolicy",
            json!("always"),
            "restartPolicy is \"always\"",
        ),
        ("/spec/dnsPolicy", json!("None"), "spec.dnsPolicy is None"),
        ("/spec/hostname", json!(key), "spec.hostname is a text of"),
        (
            "/spec/containers/0/livenessProbe/periodSeconds",
            json!(-1),
            "periodSeconds is -1",
        ),
        (
            "/spec/containers/0/livenessProbe/exec",
            json!({}),
            "exec and httpGet",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 0}]),
            "containerPort is 0",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A=B"}]),
            "env[0].name",
        ),
        (
            "/spec/initContainers/0/resources/requests/memory",
            json!("65Mi"),
            "more \"memory\" than limits",
        ),
        (
            "/spec/initContainers/0/securityContext/privileged",
            json!(true),
            "contradicts privileged",
        ),
    ] {
        let findings = found(&|pod| {
            let (parent, name) = place.rsplit_once('/').expect("a path");
            match pod.pointer_mut(parent).expect("it is there") {
                Value::Array(all) => all[name.parse::<usize>().expect("a number")] = value.clone(),
                parent => parent[name] = value.clone(),
            }
        });
        let is_found = findings.errors.iter().any(|one| one.what.contains(what));
        assert!(is_found, "{what}: {findings:?}");
        assert!(!format!("{findings:?}").contains("BEGIN"), "{findings:?}");
    }
    let misspelled = found(&|pod| pod["spec"]["hostNetWork"] = json!(true));
    assert_eq!(misspelled.errors, []);
    assert!(
        misspelled.warnings[0].contains("spec.hostNetWork")
            && misspelled.warnings[0].contains("write hostNetwork"),
        "{misspelled:?}"
    );
    let whole = found(&|pod| pod["spec"]["priority"] = json!(8.0));
    assert_eq!(whole.errors, []);
}

/// The places of all texts below a value.
fn texts(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::String(_) => vec![at.to_owned()],
        Value::Array(all) => {
            let each = all.iter().enumerate();
            each.flat_map(|(number, one)| texts(one, &format!("{at}/{number}")))
                .collect()
        }
        Value::Object(all) => {
            let each = all.iter();
            each.flat_map(|(key, one)| texts(one, &format!("{at}/{}", key.replace('/', "~1"))))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_in_no_finding() {
    let good = crate::config::parse_yaml(GOOD).expect("YAML");
    let checked = Path::new("/etc/kubernetes/encryption/encryption-config.yaml");
    let places = texts(&good, "");
    assert!(places.len() > 100, "{}", places.len());
    for secret in [
        "8f14e45fceea167a5a36dedd4bea2543",
        "jxRl9zqhTzWQ0m1yB7nGk5u2vP8sXcAe",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIP9a\n",
    ] {
        let last = secret.lines().last().expect("a line");
        for place in &places {
            let old = good.pointer(place).and_then(Value::as_str).expect("a text");
            let flag = old.split_once('=').map(|(flag, _)| flag);
            let after = flag.map(|flag| format!("{flag}={secret}"));
            let beside = flag.map(|flag| format!("{flag} {secret}"));
            let alone = Some(secret.to_owned());
            for new in [alone, after, beside].into_iter().flatten() {
                let mut pod = good.clone();
                *pod.pointer_mut(place).expect("it is there") = Value::String(new);
                let findings =
                    findings_as(&pod, &["/run/barbican-kms/kms.sock".to_owned()], checked);
                let said = format!("{findings:?}");
                assert!(!said.contains(last), "{place}: {said}");
            }
        }
    }
}

#[test]
fn a_file_is_read_as_the_kubelet_reads_it() {
    let read = |text: &str| {
        let mut findings = Findings::default();
        let document = document::read(text.as_bytes(), &mut findings);
        let document = document.map_err(|wrong| wrong.what)?;
        let context = Context {
            is_json: document.is_json,
            ..Context::default()
        };
        findings.errors.extend(check(&document.pod, context).errors);
        Ok::<_, String>((document.pod, findings))
    };
    let json = serde_json::to_string(&crate::config::parse_yaml(GOOD).expect("YAML"));
    let json = json.expect("JSON");
    for text in [GOOD, json.as_str()] {
        assert_eq!(read(text).expect("read").1.errors, []);
    }
    let (pod, findings) = read(&format!("kind: Job\n{GOOD}")).expect("the last counts");
    assert_eq!(pod["kind"], "Pod");
    assert!(
        findings.warnings[0].contains("occurs twice"),
        "{findings:?}"
    );
    let (_, findings) = read(&format!("{GOOD}---\n{GOOD}")).expect("the first counts");
    assert!(findings.warnings[0].contains("the first"), "{findings:?}");
    // Flow style is YAML, and the kubelet does not ask.
    let problem = read("{kind: Pod}").expect_err("not JSON");
    assert!(problem.contains("this is not JSON"), "{problem}");
    let float = |text: &str| text.replacen("2000001000", "2000001000.0", 1);
    assert_eq!(read(&float(GOOD)).expect("read").1.errors, []);
    let (_, findings) = read(&float(&json)).expect("read");
    assert!(findings.errors[0].what.contains("priority"), "{findings:?}");
}
