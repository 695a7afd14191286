// The HTTP API, and the words of the page in four languages.

const API = "api/v1";
let words = {}, language = "en";

export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body instanceof Blob) {
    options.headers["Content-Type"] = "application/octet-stream";
    options.body = body;
  } else if (method === "POST" || method === "PUT") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  const answer = await fetch(`${API}/${path}`, options);
  if (answer.status === 204) return null;
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const detail = told.detail;
    throw new Error(typeof detail === "string" ? detail : detail?.[0]?.msg ?? `${answer.status} ${answer.statusText}`);
  }
  return told;
}

export const get = path => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const put = (path, body) => call("PUT", path, body);
export const remove = path => call("DELETE", path);
export const address = path => `${API}/${path}`;

export async function planes(id, bands, z, x, y, version) {
  const answer = await fetch(`${API}/rasters/${id}/tiles/${z}/${x}/${y}?bands=${bands}${version ? `&v=${version}` : ""}`);
  if (!answer.ok) throw new Error(`tile ${z}/${x}/${y}: ${answer.status}`);
  return new Float32Array(await answer.arrayBuffer());
}

// Calls `tell` with a job whenever it changes, until it ends.
export function watch(id, tell) {
  const source = new EventSource(address(`jobs/${id}/events`));
  source.onmessage = event => {
    const job = JSON.parse(event.data);
    if (!["queued", "running"].includes(job.state)) source.close();
    tell(job);
  };
}

export async function loadWords() {
  words = await (await fetch("static/words.json")).json();
  const wanted = localStorage.getItem("language") ?? navigator.language.slice(0, 2);
  speak(["en", "de", "es", "pt"].includes(wanted) ? wanted : "en");
}

export function speak(code) {
  language = code;
  localStorage.setItem("language", code);
  document.documentElement.lang = code;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-title]")) {
    node.title = t(node.dataset.tTitle);
    node.setAttribute("aria-label", node.title);
  }
  return code;
}

export const spoken = () => language;

// The words of a key in the language of the page; {} takes what is given, in its order.
export function t(key, ...given) {
  const place = ["en", "de", "es", "pt"].indexOf(language);
  return (words[key]?.[place] ?? key).replace(/\{\}/g, () => given.shift());
}

export const number = (value, digits = 2) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

// An element with properties and children.
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
