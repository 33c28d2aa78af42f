#!/bin/sh
# Tell Elasticsearch and Kibana what they should know of our events; again is no harm.
set -eu
put() { curl -fsS -X PUT "http://127.0.0.1:9200/$1" -H "Content-Type: application/json" --data-binary "@/given/elasticsearch/$2"; echo; }
put _ilm/policy/cd4ml-events lifecycle.json
put _index_template/cd4ml-events template.json
curl -fsS -X POST "http://127.0.0.1:5601/api/saved_objects/_import?overwrite=true" -H "kbn-xsrf: true" \
    -F "file=@/given/kibana/cd4ml.ndjson"
echo
