// Elements from plain calls. Text is always text: nothing that came in a message is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// Only what differs is touched: a screen reader is told of changes, and a selection stays.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Has these elements as children, and touches nothing where they are that already.
export function placeChildren(element, children) {
  if (children.length !== element.children.length || children.some((each, index) => element.children[index] !== each)) element.replaceChildren(...children);
}

// Replaces children by others, unless they look the same.
export function setChildren(element, ...children) {
  const kept = children.filter((child) => child != null).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  const old = [...element.childNodes];
  if (old.length === kept.length && old.every((child, index) => child.isEqualNode(kept[index]) && !child.querySelector?.("button"))) return;
  element.replaceChildren(...kept);
}
