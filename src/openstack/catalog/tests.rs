use serde_json::json;

use super::*;

fn read(catalog: serde_json::Value) -> Catalog {
    optional(catalog).expect("JSON").expect("a list")
}

fn catalog() -> Catalog {
    let endpoint = |interface: &str, region: &str, region_id: &str, url: &str| json!({"interface": interface, "region": region, "region_id": region_id, "url": url, "id": "x"});
    read(json!([
        {"type": "identity", "name": "keystone", "endpoints": [
            endpoint("public", "R1", "R1", "http://keystone")]},
        {"type": "volumev3"},
        {"type": "key-manager", "endpoints": [
            endpoint("public", "R1", "R1", "http://b/km"),
            endpoint("internal", "R1", "R1", "http://b/kmint/"),
            endpoint("public", "R2", "R2id", "https://b:9311"),
            endpoint("public", "R2", "R2", "http://b/second"),
            {"interface": null, "region": 5, "url": ["x"]},
        ]},
    ]))
}

fn chosen(interface: Interface, region: Option<&str>) -> Result<String, EndpointError> {
    endpoint(&catalog(), interface, region).map(|endpoint| endpoint.to_string())
}

#[test]
fn the_first_endpoint_that_fits_is_taken() {
    let ok = |url: &str| Ok(url.to_owned());
    assert_eq!(chosen(Interface::Public, None), ok("http://b/km/v1"));
    assert_eq!(chosen(Interface::Public, Some("R1")), ok("http://b/km/v1"));
    assert_eq!(chosen(Interface::Internal, None), ok("http://b/kmint/v1"));
    assert_eq!(
        chosen(Interface::Public, Some("R2")),
        ok("https://b:9311/v1")
    );
    assert_eq!(
        chosen(Interface::Public, Some("R2id")),
        ok("https://b:9311/v1")
    );
}

#[test]
fn a_region_that_is_not_there_is_answered_with_those_that_are() {
    let error = chosen(Interface::Admin, Some("r1")).expect_err("no such endpoint");
    assert_eq!(
        error.to_string(),
        "Barbican has no admin endpoint in region \"r1\" in the service catalog; it has: \
         (none) in \"\", internal in \"R1\", public in \"R1\", public in \"R2\"; set region or \
         os-endpoint-type accordingly"
    );
}

#[test]
fn a_catalog_without_barbican_is_answered_with_what_it_has() {
    let others = read(json!([
        {"type": "keymanager", "endpoints": []}, {"type": "identity"}, {}, 7
    ]));
    let error = endpoint(&others, Interface::Public, None).expect_err("no Barbican");
    assert!(
        error.to_string().contains("it has: identity, keymanager;"),
        "{error}"
    );
    assert_eq!(
        endpoint(&read(json!([])), Interface::Public, None),
        Err(EndpointError::NoCatalog)
    );
}

#[test]
fn a_catalog_without_end_is_kept_in_part() {
    let barbican = json!({"type": "key-manager", "endpoints": vec![json!({}); 900]});
    let mut services = vec![barbican.clone(), barbican];
    services.extend((0..500).map(|n| json!({"type": format!("other-{n}")})));
    let catalog = read(services.into());
    assert_eq!(catalog.endpoints.len(), LONGEST_LIST);
    assert_eq!(catalog.others.len(), KINDS);
    assert!(catalog.others.contains("other-0"));
}

#[test]
fn the_version_is_appended_once() {
    for (url, expected) in [
        ("http://b", "http://b/v1"),
        ("http://b/", "http://b/v1"),
        ("http://b:9311/v1", "http://b:9311/v1"),
        ("http://b/km/v1/", "http://b/km/v1"),
        ("http://b/km/v10", "http://b/km/v10/v1"),
        (
            "https://[::1]:9311/key-manager",
            "https://[::1]:9311/key-manager/v1",
        ),
        ("http://b/km?x=y", "http://b/km/v1"),
        ("http://b/k\u{fc} m", "http://b/k%C3%BC%20m/v1"),
    ] {
        let url = versioned(url).map(|url| url.to_string());
        assert_eq!(url.as_deref(), Some(expected));
    }
    for url in [
        "",
        "b/km",
        "/km",
        "ftp://b",
        "http://",
        "http://u:p@b/",
        "http://b c/",
    ] {
        assert_eq!(versioned(url), None, "{url}");
    }
    assert!(!url_for_show("http://u:hunter22@b").contains("hunter22"));
}
