// What the three scripts have in common: a case, `{key, type, default}`, and what comes of it.

const METHODS = { boolean: "Boolean", string: "String", integer: "Number", float: "Number", object: "Object" };

// The part of a method's name that stands for the case's type.
export function typeName({ type }) {
  return METHODS[type];
}

// The details of an evaluation as the tests compare them. What is undefined is not written.
export function details({ value, variant, reason, errorCode, flagMetadata }) {
  return { value, variant, reason, errorCode, metadata: flagMetadata };
}
