use super::*;

const TYPICAL: &str = include_str!("../../../testdata/config.json");

#[test]
fn typical_bundle_round_trips() {
    let spec: Spec = serde_json::from_str(TYPICAL).unwrap();
    let before: serde_json::Value = serde_json::from_str(TYPICAL).unwrap();
    let after = serde_json::to_value(&spec).unwrap();
    assert_eq!(before, after);
}

#[test]
fn typical_bundle_is_understood() {
    let spec: Spec = serde_json::from_str(TYPICAL).unwrap();
    let process = spec.process.as_ref().unwrap();
    assert_eq!(process.user.additional_gids, [1, 10]);
    assert_eq!(process.rlimits[0].soft, 1024);
    let linux = spec.linux.as_ref().unwrap();
    let kinds: Vec<_> = linux.namespaces.iter().map(|n| n.kind).collect();
    assert!(kinds.contains(&NamespaceKind::Cgroup));
    let resources = linux.resources.as_ref().unwrap();
    assert_eq!(resources.memory.unwrap().swap, Some(-1));
    assert!(!resources.devices[0].allow);
    assert_eq!(resources.devices[1].minor, Some(0));
    let seccomp = linux.seccomp.as_ref().unwrap();
    assert_eq!(seccomp.default_action, SeccompAction::Errno);
    assert_eq!(seccomp.syscalls[1].args[0].op, SeccompOperator::MaskedEqual);
}

#[test]
fn null_and_unknown_fields_are_tolerated() {
    let text = r#"{"ociVersion":"1.0.2","process":{"args":null,"cwd":"/","user":null,"news":{"a":1}},
        "root":null,"mounts":null,"linux":{"resources":{"devices":null,"memory":{"limit":null}},
        "namespaces":null,"seccomp":{"defaultAction":"SCMP_ACT_KILL","architectures":["SCMP_ARCH_S390X"]}}}"#;
    let spec: Spec = serde_json::from_str(text).unwrap();
    assert!(spec.root.is_none() && spec.mounts.is_empty());
    let seccomp = spec.linux.unwrap().seccomp.unwrap();
    assert_eq!(seccomp.default_action, SeccompAction::KillThread);
    assert_eq!(seccomp.architectures, [SeccompArch::Foreign]);
}

#[test]
fn empty_document_writes_only_what_is_required() {
    assert_eq!(
        serde_json::to_string(&Spec::default()).unwrap(),
        r#"{"ociVersion":""}"#
    );
    assert!(serde_json::from_str::<Spec>("null").is_err());
}

#[test]
fn an_unknown_namespace_is_refused() {
    let text = r#"{"ociVersion":"1.2.1","linux":{"namespaces":[{"type":"colour"}]}}"#;
    let error = serde_json::from_str::<Spec>(text).unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
}
