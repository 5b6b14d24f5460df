"use strict";
// Every text of the description goes in as text, never as HTML.
const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const add = (parent, ...children) => {
  parent.append(...children);
  return parent;
};

const nameOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const either = schema.oneOf || schema.anyOf || schema.allOf;
  if (either) return either.map(nameOf).filter((name) => name && name !== "null").join(" or ");
  const type = [].concat(schema.type || "any").filter((name) => name !== "null").join(" or ");
  return type === "array" ? `list of ${nameOf(schema.items)}` : type;
};

const table = (heads, rows) => {
  const head = add(make("tr"), ...heads.map((text) => make("th", text)));
  const body = rows.map((row) => add(make("tr"), ...row.map((text) => make("td", text || ""))));
  return add(make("table"), head, ...body);
};

const content = (of) => Object.entries(of || {}).map(([type, one]) => `${nameOf(one.schema)} (${type})`).join(", ");

const operation = (path, method, one) => {
  const box = add(
    make("details"),
    add(make("summary"), make("span", method.toUpperCase(), "method"), make("code", path), make("span", one.summary)),
  );
  if (one.description) box.append(make("p", one.description, "text"));
  if ((one.parameters || []).length) {
    const rows = one.parameters.map((p) => [p.name, p.in + (p.required ? ", required" : ""), p.description]);
    add(box, make("h4", "Parameters"), table(["name", "in", ""], rows));
  }
  if (one.requestBody) add(box, make("h4", "Body"), make("p", content(one.requestBody.content)));
  const answers = Object.entries(one.responses).map(([status, r]) => [status, r.description, content(r.content)]);
  return add(box, make("h4", "Answers"), table(["status", "", "body"], answers));
};

const schema = (name, one) => {
  const box = add(make("details"), add(make("summary"), make("code", name)));
  if (one.description) box.append(make("p", one.description, "text"));
  const parts = [one].concat(one.allOf || []).filter((part) => part.properties);
  const required = parts.flatMap((part) => part.required || []);
  const rows = parts.flatMap((part) => Object.entries(part.properties)).map(([field, value]) => [
    field, nameOf(value) + (required.includes(field) ? ", required" : ""), value.description,
  ]);
  return add(box, rows.length ? table(["field", "type", ""], rows) : make("p", nameOf(one)));
};

const show = (api) => {
  const page = document.getElementById("api");
  page.replaceChildren(make("h1", `${api.info.title} API ${api.info.version}`), make("p", api.info.description, "text"));
  for (const tag of api.tags || []) {
    add(page, make("h2", tag.name), make("p", tag.description));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, one] of Object.entries(item)) {
        if ((one.tags || []).includes(tag.name)) page.append(operation(path, method, one));
      }
    }
  }
  page.append(make("h2", "schemas"));
  for (const [name, one] of Object.entries(api.components.schemas)) page.append(schema(name, one));
};

// Relative, so that it also works below a path prefix.
fetch("openapi.json")
  .then((response) => response.json())
  .then(show)
  .catch((error) => document.getElementById("api").replaceChildren(make("p", `Cannot show openapi.json: ${error}`)));
