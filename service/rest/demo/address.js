// Where this service is. Behind a proxy that passes on what is below a prefix, its paths begin with that.

const root = new URL("../", import.meta.url);

/** The whole address of one of the service's paths, such as "/v1/predict". */
export function address(path) {
  return new URL(path.slice(1), root);
}
