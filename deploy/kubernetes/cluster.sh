# shellcheck shell=bash
# What the scripts of this folder share. They run in the project's folder, on what kubectl's current
# context names, in its namespace or in NAMESPACE.
source deploy/bin/env.sh
source deploy/bin/steady.sh

# Where it is noted how many replicas a stage had before it was halted.
noted=rabbitmq-pipeline/replicas
# What the pods of deploy/kubernetes/run are labelled with, which are no replicas that stay.
one_off=rabbitmq-pipeline/run
# By which KEDA leaves a stage alone.
keda_paused=autoscaling.keda.sh/paused-replicas

k() {
    kubectl ${NAMESPACE:+--namespace "$NAMESPACE"} "$@"
}

# deployment STAGE : what its Deployment and its secret are called
deployment() {
    echo "${1//_/-}"
}

# selector STAGE... : of these stages; none: of all
selector() {
    if (($#)); then
        echo "stage in ($(IFS=,; echo "$*")),!$one_off"
    else
        echo "stage,stage notin (control,board),!$one_off"
    fi
}

# deployments STAGE... : name, stage, number of replicas, and the number that is noted, if there is one
deployments() {
    local format='{{range .items}}{{.metadata.name}} {{.metadata.labels.stage}} {{.spec.replicas}} '
    format+="{{with .metadata.annotations}}{{with index . \"$noted\"}}{{.}}{{end}}{{end}}{{\"\\n\"}}{{end}}"
    patiently k get deployments --selector "$(selector "$@")" --output "go-template=$format"
}

# replicas NUMBER NOTED : a patch of a Deployment
replicas() {
    echo "{\"metadata\":{\"annotations\":{\"$noted\":$2}},\"spec\":{\"replicas\":$1}}"
}

# scaled_object DEPLOYMENT : its own, if KEDA is there and scales it
scaled_object() {
    local said code=0
    said=$(k get scaledobject "$1" --ignore-not-found --output name 2>&1) || code=$?
    if [[ $said == *"doesn't have a resource type"* ]]; then return; fi
    if ((code)); then echo "$said" >&2; else echo "$said"; fi
    return "$code"
}

# pause_keda DEPLOYMENT VALUE : have KEDA leave it alone, or not any more, with - as value
pause_keda() {
    local found
    found=$(patiently scaled_object "$1") || return
    if [[ -n $found ]]; then
        patiently k annotate --overwrite scaledobject "$1" "$keda_paused$2" >/dev/null
    fi
}

# bring_back STAGE... : give halted stages the replicas again that they had. KEDA first: while the number is noted,
# whoever is interrupted can do it again.
bring_back() {
    local known name number
    known=$(deployments "$@") || return
    while read -r name _ _ number; do
        if [[ -z $number ]]; then continue; fi
        if ! pause_keda "$name" - || ! patiently k patch deployment "$name" --patch "$(replicas "$number" null)" >/dev/null; then
            echo "$name is not brought back: make resume TARGET=kubernetes once more" >&2
            return 1
        fi
        echo "$name: $number"
    done <<<"$known"
}

# explain SELECTOR : of pods that are not ready, why
explain() {
    local format='{{range .items}}{{if not .metadata.deletionTimestamp}}{{$pod := .metadata.name}}{{range .status.conditions}}'
    format+='{{if and (eq .type "PodScheduled") (eq .status "False")}}{{$pod}}: {{.message}}{{"\n"}}{{end}}{{end}}'
    format+='{{range .status.containerStatuses}}{{if not .ready}}{{$pod}} of {{.image}}:'
    format+='{{with .state.waiting}} {{.reason}}{{with .message}}: {{.}}{{end}}{{end}}'
    format+='{{if .state.running}} runs, and is not ready{{end}}'
    format+='{{with .lastState.terminated}}; it has ended with exit code {{.exitCode}}{{end}}'
    format+='{{with .state.terminated}} ended with exit code {{.exitCode}}{{end}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}'
    k get pods --selector "$1" --output "go-template=$format"
}
