"""The manifests against a real API server, where KUBE_APISERVER names one."""
