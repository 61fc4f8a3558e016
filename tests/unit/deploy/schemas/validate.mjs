// Reads a JSON list of custom resources, checks each against its schema, prints [{name, error}], error null if it holds.
// It is run from a copy beside node_modules.
import { readFileSync } from "node:fs";
import * as secrets from "@kubernetes-models/external-secrets/external-secrets.io/v1";
import * as gateway from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as operator from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const KINDS = {
  "gateway.networking.k8s.io/v1/HTTPRoute": gateway.HTTPRoute,
  "gateway.networking.k8s.io/v1/GRPCRoute": gateway.GRPCRoute,
  "external-secrets.io/v1/ExternalSecret": secrets.ExternalSecret,
  "keda.sh/v1alpha1/ScaledObject": keda.ScaledObject,
  "monitoring.coreos.com/v1/PodMonitor": operator.PodMonitor,
  "monitoring.coreos.com/v1/PrometheusRule": operator.PrometheusRule,
};

const answers = JSON.parse(readFileSync(0, "utf8")).map((resource) => {
  const key = `${resource.apiVersion}/${resource.kind}`;
  const Kind = KINDS[key];
  if (!Kind) return { name: key, error: "no schema is known for it" };
  try {
    const { apiVersion, ...rest } = resource;
    new Kind(rest).validate();
    return { name: key, error: null };
  } catch (error) {
    return { name: key, error: String(error.message) };
  }
});
process.stdout.write(JSON.stringify(answers));
