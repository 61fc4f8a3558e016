// /docs: every operation of /openapi.json with its inputs, to send to this server, and its answers. Own files only.

import { address } from "./address.js";
import { el, fill, words } from "./elements.js";
import { Inputs } from "./reference-inputs.js";

const $ = (id) => document.getElementById(id);
const METHODS = ["get", "post", "put", "delete"];
/** Bytes of an answer that are shown as text. */
const SHOWN = 40_000;

const documentOf = async () => {
  const answer = await fetch(address("/openapi.json"));
  if (!answer.ok) throw new Error(`/openapi.json: ${answer.status}`);
  return answer.json();
};

/** One line for a shell that sends the same. */
function curl({ method, url, headers, body, files }) {
  const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
  const parts = ["curl -sS", method === "GET" ? "" : `-X ${method}`];
  for (const [name, value] of Object.entries(headers)) parts.push("-H", quoted(`${name}: ${value}`));
  if (body instanceof FormData) for (const [name, value] of body) parts.push("-F", quoted(`${name}=${value.name ? `@${value.name}` : value}`));
  else if (files.length) parts.push("--data-binary", quoted(`@${files[0].name}`));
  else if (body) parts.push("--data", quoted(body));
  return [...parts, quoted(address(url).href)].filter(Boolean).join(" ");
}

/** What came, for people: pictures and films as such, text as text, the rest to keep. */
async function shown(answer) {
  const type = answer.headers.get("Content-Type") ?? "";
  const blob = await answer.blob();
  const url = URL.createObjectURL(blob);
  const save = el("a", { href: url, download: "answer", textContent: `Save ${blob.size.toLocaleString("en")} bytes` });
  if (type.startsWith("image/") && !type.includes("portable")) return [el("img", { src: url, alt: "The answer" }), save];
  if (type.startsWith("video/mp4") || type.startsWith("video/webm")) return [el("video", { src: url, controls: true }), save];
  if (!/json|text|openmetrics/.test(type)) return [save];
  let text = await blob.text();
  if (type.includes("json")) text = JSON.stringify(JSON.parse(text), null, 2);
  const cut = text.length > SHOWN ? `${text.slice(0, SHOWN)}\n…` : text;
  return [el("pre", { tabIndex: 0, textContent: cut }), save];
}

async function send(request, target) {
  fill(target, el("p", { className: "hint", textContent: "waiting …" }));
  const began = performance.now();
  try {
    const answer = await fetch(address(request.url), request);
    const seconds = (performance.now() - began) / 1000;
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const parts = await shown(answer);
    fill(
      target,
      el("p", {}, el("b", { textContent: `${answer.status} ${answer.statusText}` }), ` after ${seconds.toFixed(2)} s`),
      ...parts,
      el("details", {}, el("summary", { textContent: "Headers" }), el("pre", { textContent: headers })),
    );
  } catch (error) {
    fill(target, el("p", { className: "error", textContent: `No answer: ${error.message}` }));
  }
}

/** The inside of one operation, made when it is first opened. */
function inside(api, path, method, operation) {
  const inputs = new Inputs(api, path, method, operation);
  const target = el("div", { className: "answer", role: "status" });
  const line = el("pre", { tabIndex: 0 });
  const button = el("button", { className: "primary", type: "button", textContent: "Send" });
  const tell = () => { line.textContent = curl(inputs.request($("key").value.trim(), false)); };
  button.addEventListener("click", () => {
    try {
      const request = inputs.request($("key").value.trim(), true);
      tell();
      send(request, target);
    } catch (error) {
      fill(target, el("p", { className: "error", textContent: error.message }));
    }
  });
  const answers = Object.entries(operation.responses).map(([status, answer]) =>
    el("tr", {}, el("td", {}, el("b", { textContent: status })), el("td", {}, ...words(answer.description ?? ""), " ",
      el("span", { className: "hint", textContent: Object.keys(answer.content ?? {}).join(", ") }))));
  const holder = el("div", { className: "inside" },
    el("div", {}, ...(operation.description ?? "").split(/\n\s*\n/).filter(Boolean).map((text) => el("p", { className: "hint" }, ...words(text)))),
    ...inputs.parts,
    el("div", { className: "row" }, button),
    line, target,
    el("details", {}, el("summary", { textContent: "Answers" }), el("table", { className: "answers" }, el("tbody", {}, ...answers))));
  holder.addEventListener("input", tell);
  tell();
  return holder;
}

function row(api, path, method, operation) {
  const details = el("details", { className: "operation", id: operation.operationId },
    el("summary", {}, el("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
      el("code", { textContent: path }), el("span", { className: "soft" }, ...words(operation.summary))));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(inside(api, path, method, operation));
  });
  return details;
}

function show(api) {
  $("about").textContent = `${api.info.title}, ${api.info.version}. Fill in a request, send it to this server, read its answer.`;
  $("key-field").hidden = !api.components?.securitySchemes;
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => methods[each])) {
      const tag = methods[method].tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(row(api, path, method, methods[method]));
    }
  }
  for (const [tag, rows] of groups) $("operations").append(el("section", {}, el("h2", { className: "group", textContent: tag }), ...rows));
  const named = document.getElementById(location.hash.slice(1));
  if (named) { named.open = true; named.scrollIntoView(); }
}

$("find").addEventListener("input", () => {
  const text = $("find").value.trim().toLowerCase();
  for (const section of $("operations").children) {
    const rows = [...section.querySelectorAll(".operation")];
    for (const each of rows) each.hidden = !each.querySelector("summary").textContent.toLowerCase().includes(text);
    section.hidden = rows.every((each) => each.hidden);
  }
});

try {
  show(await documentOf());
} catch (error) {
  $("error").textContent = `The interface's document could not be read: ${error.message}`;
  $("error").hidden = false;
}
