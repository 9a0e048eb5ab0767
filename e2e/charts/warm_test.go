package charts_test

import (
	_ "helm.sh/helm/v4/pkg/chart/common"
	_ "helm.sh/helm/v4/pkg/chart/common/util"
	_ "helm.sh/helm/v4/pkg/chart/v2/loader"
	_ "helm.sh/helm/v4/pkg/chart/v2/util"
	_ "helm.sh/helm/v4/pkg/engine"
	_ "k8s.io/client-go/kubernetes/scheme"
	_ "k8s.io/apimachinery/pkg/runtime/serializer/json"
	_ "keyward.dev/shared/testkit/pgserver"
	_ "github.com/google/go-cmp/cmp"
)
