"use strict";
// Everything shown comes from the registry as text and is put in as text: no markup is ever made of it.

const view = document.getElementById("view");
const trail = document.getElementById("path");
const login = document.getElementById("login");
const ACCEPT = [
  "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");
let credentials = null;
let turn = 0;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  for (const child of children) made.append(child);
  return made;
}

const code = (text) => element("code", {}, text);
const link = (text, ...parts) => element("a", { href: "#" + parts.map(encodeURIComponent).join("|") }, text);
const short = (digest) => digest.replace(/^(sha\d+:.{12}).*$/, "$1…");

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return (unit === 0 ? bytes : bytes.toFixed(1)) + " " + units[unit];
}

const when = (seconds) => seconds ? new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16) : "–";

function table(heads, rows) {
  const cell = (name, value, number) => element(name, number ? { class: "number" } : {}, value);
  const numbers = heads.map((head) => head.startsWith("#"));
  const head = element("tr", {}, ...heads.map((h, i) => cell("th", h.replace("#", ""), numbers[i])));
  const body = rows.map((row) => element("tr", {}, ...row.map((value, i) => cell("td", value, numbers[i]))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

async function ask(path, accept) {
  const headers = { Accept: accept || "application/json" };
  if (credentials) headers.Authorization = credentials;
  const answer = await fetch(path, { headers, credentials: "omit" });
  if (answer.status === 401) login.hidden = false;
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Error(body?.errors?.[0]?.message || answer.status + " " + answer.statusText);
  }
  return answer;
}

const json = async (path, accept) => (await ask(path, accept)).json();

async function repositories() {
  const found = [];
  let last = "";
  do {
    const page = await json("/api/repositories?last=" + encodeURIComponent(last));
    found.push(...page.repositories);
    last = page.next;
  } while (last && found.length < 5000);
  if (!found.length) return [element("p", { class: "quiet" }, "Nothing has been pushed here yet, or nothing that you may see.")];
  return [table(["Repository", "#Tags", "#Manifests", "#Size", "Pushed"],
    found.map((r) => [link(r.name, r.name), String(r.tags), String(r.manifests), size(r.bytes), when(r.pushed)]))];
}

async function tags(name) {
  const found = [];
  let last = "";
  do {
    const page = await json(`/api/tags?repository=${encodeURIComponent(name)}&last=${encodeURIComponent(last)}`);
    found.push(...page.tags);
    last = page.next;
  } while (last && found.length < 5000);
  return [table(["Tag", "Digest", "Kind", "Moved", "Pulled"],
    found.map((t) => [link(t.name, name, t.name), code(short(t.digest)), kind(t.mediaType), when(t.moved), when(t.pulled)]))];
}

const kind = (type) => /index|list/.test(type) ? "index" : "image";

function platform(p) {
  return p ? [p.os, p.architecture, p.variant].filter(Boolean).join("/") : "–";
}

async function manifest(name, reference) {
  const answer = await ask(`/v2/${name}/manifests/${reference}`, ACCEPT);
  const digest = answer.headers.get("Docker-Content-Digest");
  const type = answer.headers.get("Content-Type");
  const body = await answer.json();
  const separator = reference.includes(":") ? "@" : ":";
  const shown = [
    element("pre", {}, code(`docker pull ${location.host}/${name}${separator}${reference}`)),
    element("p", {}, code(digest), " ", element("span", { class: "quiet" }, type)),
  ];
  if (body.manifests) {
    shown.push(element("h2", {}, "Platforms"), table(["Manifest", "Platform", "#Size"],
      body.manifests.map((m) => [link(short(m.digest), name, m.digest), platform(m.platform), size(m.size)])));
  } else {
    const parts = [body.config, ...(body.layers || [])].filter(Boolean);
    const total = parts.reduce((sum, part) => sum + part.size, 0);
    shown.push(element("h2", {}, `Layers (${size(total)})`), table(["Digest", "Type", "#Size"],
      parts.map((p) => [code(short(p.digest)), p.mediaType, size(p.size)])));
    shown.push(...await history(name, body.config));
  }
  if (body.annotations) {
    shown.push(element("h2", {}, "Annotations"),
      table(["Name", "Value"], Object.entries(body.annotations).map(([key, value]) => [code(key), String(value)])));
  }
  const list = await json(`/v2/${name}/referrers/${digest}`);
  if (list.manifests.length) {
    shown.push(element("h2", {}, "Referrers"), table(["Digest", "Artifact type", "#Size"],
      list.manifests.map((m) => [link(short(m.digest), name, m.digest), m.artifactType || "–", size(m.size)])));
  }
  return shown;
}

async function history(name, config) {
  if (!config || config.size > 1 << 20 || !/config|container\.image/.test(config.mediaType)) return [];
  const body = await json(`/v2/${name}/blobs/${config.digest}`, "*/*").catch(() => null);
  if (!body?.history?.length) return [];
  return [element("h2", {}, "History"),
    table(["Created by"], body.history.map((h) => [code(h.created_by || h.comment || "–")]))];
}

async function show() {
  const mine = ++turn;
  const parts = location.hash.slice(1).split("|").filter(Boolean).map(decodeURIComponent);
  const [name, reference] = parts;
  trail.replaceChildren(...(name ? [link("repositories"), " / ", link(name, name)] : []), ...(reference ? [" / ", code(reference)] : []));
  document.title = [reference, name, "berth registry"].filter(Boolean).join(" · ");
  let shown;
  try {
    shown = reference ? await manifest(name, reference) : name ? await tags(name) : await repositories();
  } catch (error) {
    shown = [element("p", { class: "problem" }, error.message)];
  }
  // Somebody may have gone on meanwhile.
  if (mine === turn) view.replaceChildren(...shown);
}

document.getElementById("enter").addEventListener("click", () => {
  const text = document.getElementById("user").value + ":" + document.getElementById("password").value;
  credentials = "Basic " + btoa(String.fromCharCode(...new TextEncoder().encode(text)));
  login.hidden = true;
  show();
});
window.addEventListener("hashchange", show);
show();
