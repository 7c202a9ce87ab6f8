#!/bin/sh
# Installs what the tests of this folder need and this machine lacks: the AWS CLI and boto3 as Debian packages, which takes root, and the
# SDK for JavaScript into .bin. Without it the tests leave out what is missing; with WAYBILL_SNIPPETS=required they fail instead.
set -eu
cd "$(dirname "$0")/../.."
if ! { command -v aws && python3 -c 'import boto3'; } >/dev/null 2>&1; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "install the AWS CLI, and boto3 for Python" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends awscli python3-boto3 >/dev/null
fi
[ -d .bin/node_modules/@aws-sdk/client-sqs ] || npm install --no-save --no-audit --no-fund --silent --prefix .bin @aws-sdk/client-sqs@3.1169.0
