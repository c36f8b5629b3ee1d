// Says which of the manifests on standard input, a JSON array of them, break the schemas of their kinds: a JSON array of
// `{"kind", "errors"}`. A kind without a schema here is an error, too.
import { readFileSync } from 'node:fs';
import * as extensions from '@kubernetes-models/istio/extensions.istio.io/v1alpha1';
import * as networking from '@kubernetes-models/istio/networking.istio.io/v1';
import * as filters from '@kubernetes-models/istio/networking.istio.io/v1alpha3';

const KINDS = {
  'extensions.istio.io/v1alpha1': extensions,
  'networking.istio.io/v1': networking,
  'networking.istio.io/v1alpha3': filters,
};

function errorsOf(manifest) {
  const Kind = KINDS[manifest.apiVersion]?.[manifest.kind];
  if (!Kind) return ['no schema'];
  try {
    new Kind(manifest).validate();
    return [];
  } catch (error) {
    return [String(error.message)];
  }
}

const manifests = JSON.parse(readFileSync(0, 'utf8'));
const found = manifests.map((manifest) => ({ kind: manifest.kind, errors: errorsOf(manifest) }));
console.log(JSON.stringify(found.filter(({ errors }) => errors.length)));
