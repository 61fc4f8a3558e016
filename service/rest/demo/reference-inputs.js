// The inputs of one operation of an OpenAPI document, and the request they make.

import { el, fill, words } from "./elements.js";

/** A schema without references and without "or null". */
function plain(api, schema = {}) {
  if (schema.$ref) return plain(api, schema.$ref.slice(2).split("/").reduce((node, key) => node[key], api));
  const one = (schema.anyOf ?? schema.oneOf ?? []).filter((each) => each.type !== "null")[0];
  return one ? { ...plain(api, one), ...(schema.description && { description: schema.description }) } : schema;
}

/** Something that fits the schema, to begin with. */
function example(api, raw, depth = 0) {
  const schema = plain(api, raw);
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.type === "array") return depth < 4 ? [example(api, schema.items, depth + 1)] : [];
  if (schema.properties) {
    const needed = schema.required ?? Object.keys(schema.properties);
    return Object.fromEntries(needed.map((name) => [name, example(api, schema.properties[name], depth + 1)]));
  }
  return { integer: 0, number: 0, boolean: false, object: {} }[schema.type] ?? "";
}

const isFile = (schema) => schema.format === "binary" || "contentMediaType" in schema || schema.type === undefined;

/** An input for one value; `read` gives what is filled in, or "" where nothing is. */
class Value {
  constructor(api, name, raw, needed, description) {
    const schema = plain(api, raw);
    const items = schema.type === "array" ? plain(api, schema.items) : null;
    this.name = name;
    this.needed = needed;
    this.isFile = isFile(items ?? schema);
    const choices = schema.enum ?? (schema.type === "boolean" ? ["true", "false"] : null);
    if (this.isFile) this.input = el("input", { type: "file", multiple: Boolean(items) });
    else if (choices) this.input = el("select", {}, ...["", ...choices].map((choice) => new Option(choice, choice)));
    else this.input = el("input", { type: "text", placeholder: schema.default === undefined ? "" : String(schema.default) });
    this.input.setAttribute("name", name);
    const text = description ?? schema.description ?? "";
    this.field = el("label", { className: "field" }, el("span", {}, el("b", { textContent: name }), needed ? " (needed)" : ""), this.input,
      el("span", {}, ...words(text)));
  }

  read() {
    return this.isFile ? [...this.input.files] : this.input.value.trim();
  }
}

export class Inputs {
  #path;
  #method;
  #values = []; // [{where, value}]
  #type = null;
  #accept = null;
  #body = null; // () => {body, files}

  constructor(api, path, method, operation) {
    this.#path = path;
    this.#method = method.toUpperCase();
    this.parts = [];
    for (const parameter of operation.parameters ?? []) {
      const value = new Value(api, parameter.name, parameter.schema, parameter.required, parameter.description);
      this.#values.push({ where: parameter.in, value });
    }
    if (this.#values.length) this.parts.push(el("div", {}, el("h3", { textContent: "Parameters" }), el("div", { className: "inputs" }, ...this.#values.map(({ value }) => value.field))));
    const content = operation.requestBody?.content ?? {};
    if (Object.keys(content).length) this.parts.push(this.#bodyPart(api, content, operation.requestBody.required));
    const types = Object.keys(operation.responses["200"]?.content ?? {});
    if (types.length > 1) {
      this.#accept = el("select", { name: "Accept" }, ...types.map((type) => new Option(type, type)));
      this.parts.push(el("label", { className: "field" }, "Accept", this.#accept));
    }
  }

  #bodyPart(api, content, needed) {
    this.#type = el("select", { name: "Content-Type" }, ...Object.keys(content).map((type) => new Option(type, type)));
    const holder = el("div", { className: "body" });
    const change = () => fill(holder, this.#bodyOf(api, this.#type.value, content[this.#type.value]));
    this.#type.addEventListener("change", change);
    change();
    return el("div", {}, el("h3", { textContent: `Body${needed ? "" : " (may be left out)"}` }), el("label", { className: "field" }, "Content-Type", this.#type), holder);
  }

  #bodyOf(api, type, { schema: raw, examples, example: one }) {
    const schema = plain(api, raw);
    if (type.startsWith("multipart/") && schema.properties) {
      // Options stand in the query or in the form, each once: here in the query.
      const asked = new Set(this.#values.map(({ value }) => value.name));
      const values = Object.entries(schema.properties).filter(([name]) => !asked.has(name))
        .map(([name, each]) => new Value(api, name, each, schema.required?.includes(name)));
      this.#body = () => form(values);
      return el("div", { className: "inputs" }, ...values.map((value) => value.field));
    }
    if (type.includes("json")) {
      const begin = one ?? Object.values(examples ?? {})[0]?.value ?? example(api, schema);
      const text = el("textarea", { spellcheck: false, value: JSON.stringify(begin, null, 2) });
      text.setAttribute("aria-label", "JSON body");
      this.#body = () => ({ body: text.value, files: [] });
      return text;
    }
    const file = el("input", { type: "file" });
    file.setAttribute("aria-label", "File that is the body");
    this.#body = () => ({ body: file.files[0], files: [...file.files] });
    return file;
  }

  /** What fetch takes, with `files` beside it. With `strict` raises an Error where something needed is missing. */
  request(key, strict) {
    let path = this.#path;
    const query = new URLSearchParams(), headers = {};
    for (const { where, value } of this.#values) {
      const text = value.read();
      if (!text.length) {
        if (strict && where === "path") throw new Error(`Fill in ${value.name} first.`);
        continue;
      }
      if (where === "path") path = path.replace(`{${value.name}}`, encodeURIComponent(text));
      else if (where === "query") query.set(value.name, text);
      else if (where === "header") headers[value.name] = text;
    }
    if (this.#accept) headers.Accept = this.#accept.value;
    if (key) headers.Authorization = `Bearer ${key}`;
    const { body, files } = this.#body?.() ?? { body: undefined, files: [] };
    // A form names its own type, with what parts it.
    if (body && !(body instanceof FormData)) headers["Content-Type"] = this.#type.value.replace("/*", "/mp4");
    const asked = query.toString();
    return { method: this.#method, url: asked ? `${path}?${asked}` : path, headers, body: body || undefined, files };
  }
}

function form(values) {
  const body = new FormData(), files = [];
  for (const value of values) {
    const read = value.read();
    if (value.isFile) for (const file of read) { body.append(value.name, file); files.push(file); }
    else if (read) body.append(value.name, read);
  }
  return { body, files };
}
